"""The test process's handle on the zygote, the clean process from which server processes are forked."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from .._support import ServertestError
from ._process_exit import wait_for_exit
from ._zygote_main import REQUEST_HEAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ("NoZygote", "Zygote", "shutdown_zygote", "the_zygote", "zygote_pids")

#: Seconds that the zygote may take to end. It has to kill and to reap, and waits for nobody.
ENDING = 5.0

# The path of modules comes over the socket: it must be in place before anything of ours can be imported, and it may
# be longer than a command line. -P keeps Python from putting the current directory first, where a test may have a
# socket.py.
_PROGRAM = """\
import pickle, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
with control.makefile("rb", buffering=0) as file:
    sys.path[:] = pickle.load(file)
from servertest.launch._zygote_main import main
main(control)
"""


class NoZygote(ServertestError, RuntimeError):  # noqa: N818 - named by what is the matter, as all our errors
    """The process from which server processes are forked did not start, or has ended; the message holds its last words."""


class Zygote:
    """A running zygote."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        try:
            self._words, words = os.pipe()
        except OSError:
            self._control.close()
            theirs.close()
            raise
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
                    [sys.executable, *_interpreter_flags(), "-P", "-c", _PROGRAM, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=[theirs.fileno()],
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is for the test's process; this one ends with it
                )
        except BaseException:
            self._control.close()
            os.close(self._words)
            raise
        finally:
            os.close(words)
        os.set_blocking(self._words, False)
        self._excuse()

    def _excuse(self) -> None:
        """It lives as long as the test run: no test has leaked it."""
        from ._leak_excuses import register_own_fd, register_own_pid

        register_own_pid(self.pid)
        for fd in self._own_descriptors:
            register_own_fd(fd)

    def _unexcuse(self) -> None:
        from ._leak_excuses import unregister_own_fd, unregister_own_pid

        unregister_own_pid(self.pid)
        for fd in self._own_descriptors:
            unregister_own_fd(fd)

    @property
    def _own_descriptors(self) -> tuple[int, int]:
        return self._control.fileno(), self._words

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def introduce(self) -> None:
        """Tell it where modules are. It cannot do anything before."""
        import pickle

        self._send(pickle.dumps(sys.path), [])

    def fork(self, descriptors: Sequence[int], preload: Iterable[str] = ()) -> None:
        """Have it fork a server process that gets these descriptors, the lifeline first.

        Args:
            descriptors: In the order that `_zygote_main` documents. The zygote gets copies.
            preload: Names of modules that it should import first, once for all.

        Raises:
            NoZygote: It has ended.
        """
        request = json.dumps({"preload": list(preload)}).encode()
        self._send(REQUEST_HEAD.pack(len(request)) + request, descriptors)

    def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        with self._lock:
            try:
                sent = socket.send_fds(self._control, [data], descriptors)
                self._control.sendall(data[sent:])
            except OSError as error:
                raise NoZygote(self.last_words()) from error

    def last_words(self) -> str:
        """Why there is no zygote: for messages."""
        try:
            text = os.read(self._words, 65_536).decode("utf-8", "backslashreplace").strip()
        except BlockingIOError:
            text = ""
        ended = "runs" if self.running else f"has ended with status {self._process.returncode}"
        said = f"; it said:\n{text}" if text else ", and said nothing"
        return f"the process from which server processes are forked (pid {self.pid}) {ended}{said}"

    def close(self) -> None:
        """End it and every server process that it has forked."""
        self._unexcuse()
        self._control.close()
        if not wait_for_exit(self._process, ENDING):
            self._process.kill()
            wait_for_exit(self._process, ENDING)
        os.close(self._words)

    def disown(self) -> None:
        """Let go of it in a forked copy of the test's process, whose zygote it is not."""
        self._control.close()
        os.close(self._words)
        self._process.returncode = 0  # or its destructor would complain that the process is still running


class _State:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.zygote: Zygote | None = None

    def begin_anew(self) -> None:
        self.lock = threading.Lock()
        if self.zygote is not None:
            self.zygote.disown()
            self.zygote = None


_state = _State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_state.begin_anew)


def the_zygote() -> Zygote:
    """The zygote of this process; started when it is first needed, and again if it has ended."""
    with _state.lock:
        if _state.zygote is not None and not _state.zygote.running:
            _state.zygote.close()
            _state.zygote = None
        if _state.zygote is None:
            _state.zygote = Zygote()
            atexit.register(shutdown_zygote)
            _state.zygote.introduce()
        return _state.zygote


def shutdown_zygote() -> None:
    """End the zygote of this process if there is one, and with it all server processes. The next launch starts another."""
    with _state.lock:
        zygote, _state.zygote = _state.zygote, None
    if zygote is not None:
        atexit.unregister(shutdown_zygote)
        zygote.close()


def zygote_pids() -> frozenset[int]:
    """Processes that live as long as the test run, and are no leak."""
    zygote = _state.zygote
    return frozenset() if zygote is None else frozenset((zygote.pid,))


def _interpreter_flags() -> list[str]:
    """The options this interpreter was started with, as far as a server could notice them."""
    flags = sys.flags
    switches = {
        "-B": flags.dont_write_bytecode,
        "-E": flags.ignore_environment,
        "-I": flags.isolated,
        "-S": flags.no_site,
        "-s": flags.no_user_site,
        "-O": flags.optimize == 1,
        "-OO": flags.optimize == 2,
        "-Xdev": flags.dev_mode,
        "-Xutf8": flags.utf8_mode,
    }
    # A category with a dot is a class of some package, which would be imported at once only to be filtered. The
    # server process gets the filters themselves.
    warnings = [f"-W{option}" for option in sys.warnoptions if "." not in option]
    return [switch for switch, on in switches.items() if on] + warnings


def _environment() -> dict[str, str]:
    """Without what would start coverage in the zygote: a server process starts it for itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}

"""What a server process does, from the fork to its end.

It gets its plan from the test's process over the channel, builds the server, and serves in the main thread, with no
other thread of ours: a server that forks may then do so without harm, and signals reach it at once. SIGTERM asks
for the end. What the server records and what goes wrong is sent home as it happens, by this process and by those
that it forks.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import faulthandler
import itertools
import os
import signal
import socket
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from .._support import Deadline, LeakFound
from ..transcript import RemoteRecorder
from ._child_stacks import answer_on
from ._errors import HandlerError
from ._leaks import Snapshot, render_leaks, wait_clean
from ._process_channel import Channel
from ._process_pickle import dump_exception, load_plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..faults import Decision
    from ..transcript import Transcript
    from ._host import Plan, Servable

__all__ = ("Filter", "Setting", "serve")

#: An entry of `warnings.filters`. In place of its category there is what stands for it: its number among the classes that
#: come with the plan, or its module and its name.
Filter: TypeAlias = tuple[str, Any, int | tuple[str, str], Any, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """The surroundings that a server process takes over from the test's process, and what it is to record.

    Attributes:
        environment: All of `os.environ`.
        directory: The current directory, None if it has been removed.
        path: `sys.path`.
        arguments: `sys.argv`.
        filters: `warnings.filters`, with something else in place of the categories.
        stands_in: Whether `servertest.servers` has taken the place of the standard `socketserver`.
        coverage: How the test's process is measured, or None.
        recording_since: The time from which the transcript counts, or None if nothing is to be recorded.
        leak_check: Whether to look, at the end, for what the server has left behind in its process.
    """

    environment: dict[str, str]
    directory: str | None
    path: list[str]
    arguments: list[str]
    filters: list[Filter]
    stands_in: bool
    coverage: dict[str, Any] | None
    recording_since: float | None
    leak_check: bool = True


def serve(channel: int, output: int, stacks: int, listener: int | None = None) -> NoReturn:
    """Be a server process, given the descriptors that the zygote has received for it."""
    _take_streams(output)
    process = _ServerProcess(Channel(socket.socket(fileno=channel)))
    process.arm(stacks)
    status = 1
    try:
        status = process.run(None if listener is None else socket.socket(fileno=listener))
    finally:
        process.leave(status)


def _take_streams(output: int) -> None:
    """Standard output and error to the test's process; nothing to read from standard input."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    for stream in (sys.stdout, sys.stderr):
        # Line by line: a forked child that ends with os._exit flushes nothing.
        cast("Any", stream).reconfigure(line_buffering=True, errors="backslashreplace")


class _Forwarder(RemoteRecorder):
    """Sends home what happens. Connections are numbered so that no two processes give the same number."""

    def __init__(self, channel: Channel, since: float) -> None:
        super().__init__(lambda event: _send(channel, ("event", event)), started=since)
        self._numbers = _numbers_of_all_processes()  # type: ignore[assignment]  # an iterator, as the one that it replaces


def _numbers_of_all_processes() -> Iterator[int]:
    """Counts in each process for itself, with the pid in the upper digits. The transcript counts anew, from 1."""
    return (os.getpid() << 32 | number for number in itertools.count(1))


class _Observer:
    """The observer at this end."""

    def __init__(self, channel: Channel, carried: Sequence[type], recording_since: float | None) -> None:
        self._channel = channel
        self._carried = carried
        forwarder = None if recording_since is None else _Forwarder(channel, recording_since)
        self.transcript = cast("Transcript | None", forwarder)

    def decided(self, decision: Decision) -> None:
        """Send home what a fault has decided."""
        _send(self._channel, ("hit", decision))

    def failed(self, error: HandlerError) -> None:
        """Send an error home: the exception as it is if that is possible, and its text in any case."""
        data = dump_exception(error.exception, self._carried)
        texts = (error.type_name, error.message, error.traceback_text, error.connection, error.where)
        _send(self._channel, ("failed", data, *texts))


class _ServerProcess:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.servable: Servable | None = None
        self.stopping = False
        self.patience = 0.0
        self.carried: Sequence[type] = ()
        self.masks = threading.local()
        self.before: Snapshot | None = None

    # -- signals

    def arm(self, stacks: int) -> None:
        """Take the signals: SIGTERM stops, two show stacks; the others do what they do in a new interpreter."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        faulthandler.enable(2)
        answer_on(stacks)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.register_at_fork(
            before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_forked_child
        )

    def _on_sigterm(self, number: int, frame: object) -> None:
        self.stopping = True
        if self.servable is not None:
            self.servable.stop()
            if (end_within := getattr(self.servable, "end_within", None)) is not None:
                end_within(self._seconds_to_close())

    def _before_fork(self) -> None:
        # A child forgets the signals that come to it before Python has set itself up in it (PyOS_AfterFork_Child):
        # a SIGTERM would be lost, and the child would stay.
        self.masks.at_fork = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self.masks.at_fork)

    def _in_forked_child(self) -> None:
        """A process that the server forks is not the server: SIGTERM ends it, unless it wants otherwise."""
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._after_fork()

    # -- life

    def run(self, listener: socket.socket | None) -> int:
        """Build, serve, close; returns the exit status."""
        message = self.channel.receive()
        if message is None:
            return 1  # the test's process has gone
        try:
            plan, observer = self._prepare(message[1], message[2])
        except BaseException as error:  # noqa: BLE001 - importing a module may raise anything
            self._refuse("load", error)
            return 0
        try:
            self.servable = servable = self._build(
                dataclasses.replace(plan, listener=listener, observer=observer)
            )
        except BaseException as error:  # noqa: BLE001 - a target's own code; the test's process raises it
            self._refuse("build", error)
            return 0
        _send(self.channel, ("ready", servable.address))
        self._serve(servable, observer)
        self._close(servable, observer)
        return 0

    def _prepare(self, setting: Setting, data: bytes) -> tuple[Plan, _Observer]:
        _take_over(setting)
        if setting.coverage is not None:
            from ._child_coverage import Measurement

            Measurement(setting.coverage).start()
        before = set(sys.modules)
        plan, self.carried = load_plan(data)
        self._tell_imports(before)
        _take_filters(setting.filters, self.carried)
        self.patience = plan.timeout
        if setting.leak_check:
            self.before = Snapshot.take()
        return plan, _Observer(self.channel, self.carried, setting.recording_since)

    def _build(self, plan: Plan) -> Servable:
        before = set(sys.modules)
        servable = plan.target.build(plan)
        self._tell_imports(before)
        if self.stopping:
            servable.stop()
        return servable

    def _tell_imports(self, before: set[str]) -> None:
        """Name the modules that had to be imported and that the zygote could import once for all processes."""
        new = [name for name in sys.modules if name not in before and name.partition(".")[0] in _COMMON]
        if new:
            _send(self.channel, ("imported", new))

    def _refuse(self, stage: str, error: BaseException) -> None:
        described = HandlerError.capture(error, where=stage)
        data = dump_exception(error, self.carried)
        texts = (described.type_name, described.message, described.traceback_text)
        _send(self.channel, ("refused", stage, data, *texts))

    def _serve(self, servable: Servable, observer: _Observer) -> None:
        try:
            servable.serve()
        except BaseException as error:  # noqa: BLE001 - SystemExit of a handler included: it has ended the server
            observer.failed(HandlerError.capture(error, where="serving loop"))

    def _close(self, servable: Servable, observer: _Observer) -> None:
        forced: list[str] = []
        _send(self.channel, ("closing",))
        try:
            servable.stop()
            forced = servable.close(Deadline(self._seconds_to_close(), "the handlers to end"))
        except BaseException as error:  # noqa: BLE001 - hooks of the user's server
            observer.failed(HandlerError.capture(error, where="close"))
        if not forced:
            self._look_for_leaks(observer)
        _send(self.channel, ("closed", forced))

    def _look_for_leaks(self, observer: _Observer) -> None:
        """Report what has appeared in this process since before the server was built, and has outlived it."""
        if self.before is None:
            return
        # A child that lives is the zygote's to report, and to end. What a collection takes away no test would ever see again.
        leaks = [leak for leak in wait_clean(self.before) if leak.kind != "child process" and not leak.remark]
        if leaks:
            error = LeakFound(f"the server has left something behind in its process: {render_leaks(leaks)}")
            observer.failed(HandlerError.capture(error, where="server process"))

    def _seconds_to_close(self) -> float:
        """What the test's process has said before it sent SIGTERM; if it has said nothing, the server ended by itself."""
        message = self.channel.receive_now()
        if message is not None:
            self.patience = float(message[1])
        return self.patience

    def leave(self, status: int) -> NoReturn:
        """End this process as an interpreter does, but without tearing down modules, which may hang on threads."""
        try:
            if sys.exc_info()[1] is not None:
                sys.excepthook(*sys.exc_info())
            atexit._run_exitfuncs()  # noqa: SLF001 - what os._exit leaves out
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        finally:
            os._exit(status)


#: What may be imported in the zygote: modules that start nothing.
_COMMON = sys.stdlib_module_names - {"antigravity", "idlelib", "test", "this", "turtle", "turtledemo"} | {
    "_pytest",
    "servertest",
}


def _take_over(setting: Setting) -> None:
    """Make this process's surroundings those of the test's process at the time of the launch."""
    for name in os.environ.keys() - setting.environment.keys():
        del os.environ[name]
    for name, value in setting.environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    time.tzset()
    if setting.directory is not None:
        os.chdir(setting.directory)
    sys.path[:] = setting.path
    sys.argv[:] = setting.arguments
    _look_again()
    if setting.stands_in:
        from .. import servers

        sys.modules["socketserver"] = servers


def _look_again() -> None:
    """Modules may have been written since the zygote looked, outside of what is installed.

    `importlib.invalidate_caches` does it for everything, and costs 10 ms, as it imports importlib.metadata.
    """
    for directory, finder in sys.path_importer_cache.items():
        if finder is not None and not directory.startswith((sys.prefix, sys.base_prefix)):
            cast("Any", finder).invalidate_caches()


def _take_filters(filters: Sequence[Filter], carried: Sequence[type]) -> None:
    """Set the filters whose categories are here: no other warning can be given yet."""
    warnings.resetwarnings()  # makes the interpreter forget what it has decided so far
    for action, message, place, module, line in filters:
        category = (
            carried[place] if isinstance(place, int) else getattr(sys.modules.get(place[0]), place[1], None)
        )
        if category is not None:
            cast("list[Any]", warnings.filters).append((action, message, category, module, line))


def _send(channel: Channel, message: tuple[Any, ...]) -> None:
    # It fails if the test's process has gone, or if a handler has closed all descriptors.
    with contextlib.suppress(OSError):
        channel.send(message)

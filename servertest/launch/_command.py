"""The command host: any program as a server under test.

The program is told where to serve by its arguments or its environment: ``{host}``, ``{port}``, ``{path}`` or ``{fd}``
in them. It runs in a process group of its own, its output is kept, and the whole group is ended with it.

That it serves is known when it prints the line that the caller names, or else when it takes a connection. For the
latter there is no event to wait for, so connections are tried, at growing intervals. This is the one place where
that is done.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._support import STOP_TIMEOUT, AddressInUse, Deadline, UsageError, bound_socket, format_address
from ._command_port import PortReservation, reserve_port
from ._command_ready import LineSearch, is_bound, takes_connection
from ._errors import HandlerError
from ._process_exit import DRAINING, DYING, ProcessDied, describe_status, wait_for_exit
from ._process_group import lasting_members
from ._process_output import Output
from ._process_reader import Descriptor, Watch

if TYPE_CHECKING:
    from .._support import Address
    from ._command_target import CommandTarget
    from ._host import Plan

__all__ = ("CommandHost",)

#: Seconds between two attempts to connect: at first, and at most. Each interval is twice the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
#: Of the time that a stop may take: the part after which the program is killed. The rest is for dying.
_KILL = 0.9
#: Seconds that members of the group may take to end after the program itself. They have been told at the same time.
_PARTING = 0.5
_PIECE = 65_536
_HOSTS = {"inet": "127.0.0.1", "inet6": "::1", "dual": "::"}
#: Ends that a program was asked for.
_ASKED_FOR = (-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL)


class CommandHost:
    """Runs a program. It may be started again after it was stopped."""

    def __init__(self) -> None:
        self._run: _Run | None = None

    @property
    def address(self) -> Address:
        """Where clients reach it."""
        if self._run is None:
            raise UsageError("the command has not been started, so it has no address yet")
        return self._run.address

    @property
    def server(self) -> None:
        """There is no server object: it is another program."""

    @property
    def pid(self) -> int | None:
        """The program's process, or None if there is none."""
        return None if self._run is None else self._run.process.pid

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self._run is not None and not self._run.ended

    @property
    def output(self) -> str:
        """The last lines that the program has printed, on standard output and standard error."""
        return "" if self._run is None else self._run.output.text()

    def start(self, plan: Plan) -> None:
        """Start the program, and return once it serves.

        Raises:
            AddressInUse: Somebody else serves at the address that the program was to have.
            UsageError: The arguments do not go with the plan's kind, or the program does not exist.
            ProcessDied: It ended before it served; the message holds its output.
            DeadlineExceeded: It does not serve; likewise.
        """
        if self._run is not None:
            raise UsageError("the command has been started already; stop it first")
        target: Any = plan.target
        target.check(plan.kind)
        run = _Run(target, plan)
        try:
            run.await_service()
        except BaseException:
            run.kill()
            run.close()
            raise
        self._run = run

    def stop(self, deadline: Deadline) -> list[str]:
        """End the program and its process group; says what had to be forced."""
        run, self._run = self._run, None
        if run is None:
            return []
        try:
            return run.stop(deadline)
        except BaseException:  # an impatient Ctrl-C, above all
            run.kill()
            run.close()
            raise

    def kill(self) -> None:
        """Let it crash: kill the program and its process group."""
        if self._run is not None:
            self._run.kill()

    def dump(self) -> str:
        """How it is, and what it has printed last."""
        if self._run is None:
            return "the command does not run"
        return self._run.describe()


class _Run:
    """One run of a program."""

    def __init__(self, target: CommandTarget, plan: Plan) -> None:
        self.output = Output()
        self.ended = False
        self._search = LineSearch(target.ready)
        self._target = target
        self._kind = plan.kind
        self._observer = plan.observer
        self._changed = threading.Condition()
        self._output_open = True
        self._serving = False
        self._stopping = False
        self._gone = False  # it has ended; `ended` follows when that has been reported
        self._reported = False
        self._reservation: PortReservation | None = None
        self.address = self._choose_address(plan)
        self.arguments = [self._fill_in(argument, plan.listener) for argument in target.words]
        near, far = os.pipe()
        os.set_blocking(near, False)
        self._near = Descriptor(near)
        try:
            self.process = self._start(far, plan.listener)
        except BaseException:
            os.close(near)
            self._release()
            raise
        finally:
            os.close(far)
        if plan.listener is not None:
            plan.listener.close()
        self._exit = _ExitWatch(self.process)
        self._watch = Watch({self._near: self._on_output, self._exit: self._on_exit})

    # -- beginning

    def _choose_address(self, plan: Plan) -> Address:
        if plan.listener is not None:
            address: Address = plan.listener.getsockname()
            return address
        if plan.kind.local:
            if plan.address is None:
                raise UsageError(f"{self._target.name} needs a path for its socket")
            if takes_connection(plan.address, self._family, self._socket_type):
                raise AddressInUse(f"somebody serves on {format_address(plan.address)}: take another path")
            return plan.address
        default = (_HOSTS[plan.kind.family], 0)
        host, port, *rest = plan.address if isinstance(plan.address, tuple) else default
        if port == 0 and not self._search.has_group:
            self._reservation = reserve_port(host, self._family, self._socket_type)
            port = self._reservation.port
        elif port:
            # Whoever serves there would pass for the program.
            bound_socket(plan.kind.transport, plan.kind.family, address=(host, port, *rest)).close()
        return (host, port, *rest)

    @property
    def _family(self) -> int:
        if self._kind.local:
            return socket.AF_UNIX
        return socket.AF_INET if self._kind.family == "inet" else socket.AF_INET6

    @property
    def _socket_type(self) -> int:
        return socket.SOCK_STREAM if self._kind.transport == "stream" else socket.SOCK_DGRAM

    def _fill_in(self, text: str, listener: socket.socket | None) -> str:
        values = {"{fd}": str(listener.fileno())} if listener is not None else {}
        if isinstance(self.address, tuple):
            values |= {"{host}": str(self.address[0]), "{port}": str(self.address[1])}
        else:
            values |= {"{path}": os.fsdecode(self.address)}
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        return text

    def _start(self, output: int, listener: socket.socket | None) -> subprocess.Popen[bytes]:
        own = {
            name: self._fill_in(value, listener) for name, value in (self._target.environment or {}).items()
        }
        environment = {"PYTHONUNBUFFERED": "1", **os.environ, **own}
        try:
            return subprocess.Popen(  # noqa: S603 - the caller's own command
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._target.directory,
                env=environment,
                pass_fds=() if listener is None else (listener.fileno(),),
                start_new_session=True,
            )
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise UsageError(
                f"the command {shlex.join(self.arguments)} cannot be started: {error}"
            ) from error

    # -- what is heard of it, in the reader's thread

    def _on_output(self) -> bool:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._near.fileno(), _PIECE):
                self.output.feed(data)
                self._search.feed(data)
                self._notify()
            self._output_open = False
            self._notify()
            return False
        return True

    def _on_exit(self) -> bool:
        self._on_output()
        with self._changed:
            self._gone = True
            self._reported = self._serving and not self._stopping
        if self._reported and self._observer is not None:
            died = ProcessDied(
                f"{self._title} {self._exit.how()}, though nobody had stopped it{self._said()}"
            )
            self._observer.failed(HandlerError.capture(died, where="command"))
        with self._changed:
            self.ended = True
            self._changed.notify_all()
        return False

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, met: Callable[[], bool], seconds: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(met, seconds)

    # -- readiness

    def await_service(self) -> None:
        """Return when it serves."""
        what = f"its line {self._search}" if self._target.ready is not None else "it to take a connection"
        deadline = Deadline(self._target.seconds, f"{shlex.join(self.arguments)} to serve ({what})")
        if self._target.ready is not None:
            self._await_line(deadline)
        elif self._target.binds:
            self._await_connection(deadline)
        # What inherits its socket is reachable at once: connections wait in the kernel until it takes them.
        with self._changed:
            self._serving = not self._gone
        if not self._serving:
            raise ProcessDied(f"{self._title} {self._exit.how()} before it served{self._said()}")

    def _await_line(self, deadline: Deadline) -> None:
        if not self._wait(lambda: self._search.match is not None or self.ended, deadline.remaining()):
            raise deadline.exceeded(note=self.describe())
        if self._search.match is not None and self._search.has_group:
            assert isinstance(self.address, tuple)
            self.address = (self.address[0], self._search.port, *self.address[2:])

    def _await_connection(self, deadline: Deadline) -> None:
        pause = _FIRST_PAUSE
        while not self._serves():
            rest = deadline.remaining()
            if self._wait(lambda: self.ended, pause if rest is None else min(pause, rest)):
                return
            if deadline.expired:
                raise deadline.exceeded(note=self.describe())
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _serves(self) -> bool:
        if self._kind.transport == "datagram" and isinstance(self.address, tuple):
            return is_bound(self.address[1])
        return takes_connection(self.address, self._family, self._socket_type)

    # -- ending

    def stop(self, deadline: Deadline) -> list[str]:
        """SIGTERM to the group, then SIGKILL."""
        self._stopping = True
        rest = deadline.remaining()
        total = STOP_TIMEOUT if rest is None else rest
        problems: list[str] = []
        self._signal(signal.SIGTERM)
        if not self._wait(lambda: self.ended, total * _KILL):
            problems.append(
                f"{self._title} did not end within {total:.3g} s of SIGTERM and was killed{self._said()}"
            )
        self._wait(lambda: not self._output_open, min(total * (1 - _KILL), DRAINING))
        problems += self._left_behind()
        by_itself = self.ended
        how = self._exit.how() if by_itself else ""
        self.kill()
        status = self.close()
        if by_itself and not self._reported and status < 0 and status not in _ASKED_FOR:
            problems.append(f"{self._title} {how} when it was to end{self._said()}")
        return problems

    def _left_behind(self) -> list[str]:
        if not self.ended:
            return []
        left = lasting_members(self.process.pid, _PARTING)
        return [
            f"process {pid}, started by {self._title}, still ran when that one had ended, and was killed"
            for pid in left
        ]

    def kill(self) -> None:
        """End all of its group at once."""
        self._stopping = True
        self._signal(signal.SIGKILL)
        self._wait(lambda: self.ended, DYING)

    def _signal(self, number: int) -> None:
        # The leader is reaped in close() only: until then its number, which is the group's, is nobody else's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def close(self) -> int:
        """Reap it, and give everything back; returns its status as `Popen.returncode` tells it."""
        self._wait(lambda: not self._output_open, DRAINING)
        self._watch.end()
        wait_for_exit(self.process, DYING)
        self._exit.close()
        if self._output_open:
            self._on_output()
        os.close(self._near.fileno())
        self._release()
        return self.process.returncode or 0

    def _release(self) -> None:
        if self._reservation is not None:
            self._reservation.release()
        if isinstance(self.address, str | bytes) and self._target.binds:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address)

    # -- describing

    @property
    def _title(self) -> str:
        return f"the command {shlex.join(self.arguments)} (pid {self.process.pid})"

    def _said(self) -> str:
        text = self.output.text().strip()
        return f"; its output:\n{text}" if text else "; it had printed nothing"

    def describe(self) -> str:
        """How it is, and what it has printed last."""
        return f"{self._title} {self._exit.how() if self.ended else 'runs'}{self._said()}"


class _ExitWatch:
    """A descriptor that becomes readable when a process has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._far: int | None = None
        try:
            self._fd = os.pidfd_open(process.pid)  # Linux 5.3; it leaves the process to be reaped
        except (AttributeError, OSError):
            self._fd, self._far = os.pipe()
            threading.Thread(
                target=self._wait, name=f"servertest waiting for {process.pid}", daemon=True
            ).start()

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def _wait(self) -> None:
        self._process.wait()
        assert self._far is not None
        os.close(self._far)

    def how(self) -> str:
        """How the process has ended, in words."""
        if self._far is not None:
            code = self._process.wait(DYING)
            return describe_status(-code if code < 0 else code << 8)
        try:
            found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            found = None  # somebody who reaps other people's children has been here
        if found is None:
            return "has ended"
        return describe_status(found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

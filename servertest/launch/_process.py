"""The process host: a server in a process of its own, forked from a clean one.

Why not simply fork? A copy of the test's process would hold the test's ends of all connections, so that closing one
here would tell the server nothing: it would wait for ever for more from that client. Whatever lock some thread held
at that moment would stay locked in the copy. And from Python 3.12 on, forking while there are threads is a warning.
So a small process without threads or sockets, the zygote, is started once and forked for each launch.

What happens when. The test's process makes sockets and pipes, has the zygote fork, and sends the plan; the server
process builds the server, says that it is ready, and serves. From then on three lines are read here, by one thread
for all servers: the *channel* (events of the transcript, errors), the *output*, and the *lifeline* (how the process
ended). To stop the server, SIGTERM is sent; the process closes its server and ends. Whoever does not end in time is
described, with stacks and last output, and killed with all that it has forked. When no process is left that could
say anything, what the channel still holds is taken: an error that was sent is never lost.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from .._support import STOP_TIMEOUT, Deadline, UsageError
from ._child import Filter, Setting
from ._child_coverage import measurement_options
from ._process_exit import DYING, ProcessDied
from ._process_pickle import dump_plan
from ._process_run import ServerProcess
from ._zygote import NoZygote, the_zygote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._support import Address
    from ._host import Observer, Plan

__all__ = ("ProcessHost",)

#: Seconds that a server process may take from its fork until it serves. Importing a handler's modules may take long.
STARTING = 20.0

# Of the time that a stop may take: when the stacks are taken, until when the server process waits for its handlers,
# and when it is killed if it has not come back from serving. If it has, it is busy forcing handlers to end, and
# describing them, for which there are a few seconds more.
_LOOK, _CLOSE, _KILL = 0.6, 0.8, 0.9
_FORCING = 5.0


class ProcessHost:
    """Runs a plan in a process of its own.

    It may be started again after it was stopped.
    """

    def __init__(self) -> None:
        self._process: ServerProcess | None = None
        self._address: Address | None = None

    @property
    def address(self) -> Address:
        """Where clients reach the server."""
        if self._address is None:
            raise UsageError("the server has not been started, so it has no address yet")
        return self._address

    @property
    def server(self) -> None:
        """The server object lives in the other process."""

    @property
    def pid(self) -> int | None:
        """The server process, or None if there is none."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """Whether there is a server process and it has not ended."""
        return self._process is not None and not self._process.ended

    @property
    def output(self) -> str:
        """What the server process and its forked children have printed last."""
        return "" if self._process is None else self._process.output.text()

    def start(self, plan: Plan) -> None:
        """Fork a server process, and return once it serves.

        `plan.listener` is handed over: it is closed here, so that nobody listens any more when the process dies.

        Raises:
            UsageError: Something in the plan cannot be sent to another process.
            ProcessDied: The process ended before it served.
            DeadlineExceeded: It neither served nor failed in time.
            Exception: Whatever the target raised when it was built there.
        """
        if self._process is not None:
            raise UsageError("the server has been started already; stop it first")
        deadline = Deadline(STARTING, f"{plan.target.name} to be started in a process")
        observer = _observer(plan)
        data, carried = dump_plan(_portable(plan), plan.target.name)
        zygote = the_zygote()
        process = ServerProcess(observer, carried)
        try:
            process.fork(zygote, plan.listener)
            process.tell(("plan", _setting(plan, carried), data), deadline)
            _await_service(process, plan, deadline)
        except BaseException:
            process.kill()
            process.close()
            raise
        self._process, self._address = process, process.address
        if plan.listener is not None:
            plan.listener.close()

    def stop(self, deadline: Deadline) -> list[str]:
        """End the process and all that it has forked; says what had to be forced, and how it ended if not in order.

        It is over by the deadline, or a few seconds later if the system does not let a process die.
        """
        process, self._process = self._process, None
        if process is None:
            return []
        process.expected = True
        try:
            problems = _after_end(process) if process.ended else _end(process, deadline)
        except BaseException:  # an impatient Ctrl-C, above all
            process.kill()
            process.close()
            raise
        problems += process.close()
        problems += [_forked_by(process, pid) for pid in process.left]
        return problems

    def catch_up(self) -> None:
        """Take in what the server has recorded, reported and printed until now.

        It comes by itself, but a moment later: without this, a test that has a client's reply may look into the transcript
        before the request is in it. Whatever the server had recorded before it sent the reply is there after this.
        """
        if self._process is not None:
            self._process.catch_up()

    def kill(self) -> None:
        """Let the server crash: kill the process and all that it has forked, without a warning to anybody."""
        if self._process is not None and not self._process.ended:
            self._process.killed = True
            self._process.kill()

    def dump(self) -> str:
        """The stacks of the process and of those it has forked, and its last output."""
        process = self._process
        if process is None:
            return "there is no server process"
        if process.ended:
            return process.describe_end(process.status)
        return f"{process.stacks()}\nserver process (pid {process.pid}){process.describe_output()}"


def _end(process: ServerProcess, deadline: Deadline) -> list[str]:
    rest = deadline.remaining()
    total = STOP_TIMEOUT if rest is None else rest
    process.ask_to_stop(total * _CLOSE, Deadline(total, "the server process to listen"))
    if process.wait_for_end(total * _LOOK):
        return _after_end(process)
    seen = process.stacks()
    if process.wait_for_end(total * (_KILL - _LOOK)) or (process.closing and process.wait_for_end(_FORCING)):
        problems = _after_end(process)
        return [*problems, f"what it was doing after {total * _LOOK:.3g} s:\n{seen}"] if problems else []
    said = process.describe_output()
    who = f"the server process (pid {process.pid})"
    end = f"{who} did not end within {total:.3g} s and was killed"
    if not process.kill():
        end = f"{who} could not be killed within {DYING:g} s"
    return [*(process.forced or []), f"{end}; what it was doing:\n{seen}\n{who}{said}"]


def _after_end(process: ServerProcess) -> list[str]:
    problems = list(process.forced or [])
    if not process.reported and (process.status is None or not process.clean(process.status)):
        problems.append(process.describe_end(process.status))
    return problems


def _forked_by(process: ServerProcess, pid: int) -> str:
    return f"process {pid}, forked by the server process (pid {process.pid}), still ran when that one had ended, and was killed"


def _observer(plan: Plan) -> Observer:
    if plan.observer is None:
        raise UsageError("a plan needs an observer")
    return plan.observer


def _portable(plan: Plan) -> Plan:
    """The plan without what belongs to this process."""
    return dataclasses.replace(plan, listener=None, observer=None)


def _setting(plan: Plan, carried: Sequence[type]) -> Setting:
    transcript = _observer(plan).transcript
    return Setting(
        environment=dict(os.environ),
        directory=_current_directory(),
        path=list(sys.path),
        arguments=list(sys.argv),
        filters=[_portable_filter(one, carried) for one in warnings.filters],
        stands_in=getattr(sys.modules.get("socketserver"), "__name__", "") == "servertest.servers",
        coverage=measurement_options(),
        recording_since=None if transcript is None else transcript.started,
        leak_check=bool(plan.options.get("leak_check", True)),
    )


def _portable_filter(one: Any, carried: Sequence[type]) -> Filter:
    """A warnings filter that says which its category is, instead of bringing it along with all that it needs."""
    action, message, category, module, line = one
    if category in carried:
        return action, message, carried.index(category), module, line
    return action, message, (category.__module__, category.__qualname__), module, line


def _current_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _await_service(process: ServerProcess, plan: Plan, deadline: Deadline) -> None:
    """Return when it serves; raise why it does not."""

    def decided() -> bool:
        return process.ready or process.refusal is not None or process.ended

    if not process.wait(decided, deadline):
        raise deadline.exceeded(note=f"{process.stacks()}{process.describe_output()}")
    if process.ready:
        return
    if process.refusal is not None:
        _raise_refusal(process, plan)
    if process.fork_error:
        raise OSError(
            process.fork_error, f"no process for {plan.target.name}: {os.strerror(process.fork_error)}"
        )
    if process.status is None:
        raise NoZygote(the_zygote().last_words())
    raise ProcessDied(process.describe_end(process.status))


def _raise_refusal(process: ServerProcess, plan: Plan) -> None:
    refusal: Any = process.refusal
    if refusal.stage == "load" and isinstance(refusal.error, UsageError):
        raise refusal.error  # of ours, which says all
    refusal.error.add_note(f"In the server process:\n{refusal.described}")
    if refusal.stage == "build":
        raise refusal.error
    raise UsageError(
        f"{plan.target.name} could not be made again in a server process: {refusal.error}. "
        'Its module must be importable there, or use host="thread"'
    ) from refusal.error

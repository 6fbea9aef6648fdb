"""Clients that do nothing, on a server: they cost nothing, and they leave room for others."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from ..._support import ServertestError
from ...launch import Kind, Running
from .._case import Case
from .._live import converse
from .._registry import NotApplicable, contract_check
from .._report import Finding
from .._violation import Violation

__all__ = ("idle_clients_cost_nothing", "slow_clients_leave_room")

#: Slow clients at the same time, in the quick and in the full profile.
_SLOW = {"quick": 8, "full": 32}
#: Seconds in which the quick one is to be served, the first time, the second, ...: the machine may be busy.
_PATIENCE = (1.0, 2.0, 5.0)
#: Seconds for which processor time is counted, one time after the other, and the share of them above which somebody is busy.
_WINDOWS, _BUSY = (0.1, 0.3, 0.3), 0.5


@contract_check(
    "slowness",
    technique="live server",
    needs=("concurrent",),
    unless={"broadcast": "what one says, others hear", "reads": "it reads nothing"},
)
def slow_clients_leave_room(case: Case) -> Iterator[Violation]:
    """While many clients are slow, another one, who is quick, is served all the same.

    Eight clients (thirty-two in the full profile) send the first half of a request and no more; then a probe holds a conversation. On kinds of server that
    serve many at a time it gets its replies before any of the others has to be cut off. Pools have as many places as they have, so there is one slow client
    less than that. On kinds that serve one client at a time the others have to wait, whatever the handler does, and the report says so.
    """
    if case.kind.concurrency == "sync":
        raise NotApplicable(
            f"a {case.kind} serves one client at a time: while that one is slow, all others wait"
        )
    count = min(_SLOW[case.profile], _places(case) - 1)
    if count < 1:
        raise NotApplicable("the server has a place for one client only")
    conversation = case.with_input()[0]
    most = min(case.timeout, 0.6 * (case.promises.idle_timeout or case.timeout))
    finding: Finding | None = None
    for seconds in _PATIENCE:
        with case.serving() as running, _slow_clients(case, running, count):
            finding = converse(running, conversation, min(seconds, most))
        if finding is None:
            return
    assert finding is not None
    yield case.violation(
        f"while {count} clients are slow, another one is not served: {finding.what}",
        sent=conversation.sent,
        expected=conversation.answered,
        details=finding.details,
    )


def _places(case: Case) -> int:
    """How many clients the server has room for at the same time."""
    name = {"pool": "pool_size", "prefork": "worker_processes"}.get(case.kind.concurrency)
    if name is None:
        return 1 << 16
    attributes = getattr(case.target, "attributes", {})
    return int(attributes.get(name, getattr(case.kind.server_class, name)))


@contextmanager
def _slow_clients(case: Case, running: Running, count: int) -> Iterator[None]:
    """So many of them, each in the midst of its first request."""
    request = case.with_input()[0].pieces()[0]
    with ExitStack() as stack:
        for _ in range(count):
            with suppress(OSError):
                client: Any = stack.enter_context(running.connect(timeout=case.timeout))
                client.send_all(request[: len(request) // 2])
        transcript = running.transcript
        if transcript is not None and not case.kind.forks:
            with suppress(ServertestError):  # a pool may not take them all: then there is nobody to wait for
                transcript.wait_for(connections=count, timeout=0.5)
        yield


def _threading(kind: Kind) -> bool:
    return kind.concurrency == "threading"


@contract_check("endings", technique="live server", kinds=_threading)
def idle_clients_cost_nothing(case: Case) -> Iterator[Violation]:
    """While clients are idle, the server takes no processor time.

    One client says nothing, one half of a request, and one has had its replies. Then the processor time of the server's process is counted for a
    tenth of a second, with the time for which it wanted a processor and had none; above a half of that, twice more and longer. It shows what
    reads do not: a thread of the handler that looks again and again whether there is something to do.
    """
    conversation = next((one for one in case.conversations if one.sent), None)
    with case.serving() as running, ExitStack() as stack:
        if running.pid is None:
            raise NotApplicable("the server runs in this process, whose time is that of others, too")
        for sent in (b"", conversation.sent[: len(conversation.sent) // 2] if conversation else b""):
            with suppress(OSError):
                stack.enter_context(running.connect(timeout=case.timeout)).send_all(sent)
        client = stack.enter_context(running.connect(timeout=case.timeout))
        if conversation is not None and not conversation.half_close:
            _first_exchange(client, conversation.first(1))
        shares = []
        # Or those who are cut off for their silence would have gone before the last.
        haste = min(1.0, 0.6 * (case.promises.idle_timeout or 60.0) / sum(_WINDOWS))
        for seconds in (haste * window for window in _WINDOWS):
            before = _wanted_time(running.pid)
            threading.Event().wait(seconds)  # that is what is measured
            shares.append((_wanted_time(running.pid) - before) / seconds)
            if shares[-1] < _BUSY:
                return
    yield case.violation(
        "while all clients are idle, the server is busy",
        sent=conversation.sent if conversation else b"",
        details=f"of a processor it wants {', '.join(f'{share:.0%}' for share in shares)} one time after the other",
    )


def _first_exchange(client: Any, conversation: Any) -> None:
    expected = conversation.exchanges[0].expected
    with suppress(OSError, AssertionError):
        client.send_all(conversation.sent)
        if expected != b"" and not callable(expected):
            client.expect(expected, timeout=1.0)


def _wanted_time(pid: int) -> float:
    """Seconds for which the threads of a process have had a processor, or would have taken one: so a busy machine hides nothing.

    Raises:
        NotApplicable: The system does not tell.
    """
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/schedstat") as file:
                running, waiting, _ = map(int, file.read().split())
                total += running + waiting
    except (OSError, ValueError):
        raise NotApplicable("the processor time of another process is not known here") from None
    return total / 1e9

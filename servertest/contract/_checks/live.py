"""What only a server shows: many clients at once, children that know nothing of each other, the stop, and the way back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

from ..._support import AddressInUse, ServertestError, StillRunning, UsageError
from ...launch import Kind, Running
from .._case import Case
from .._conversation import Conversation
from .._live import converse
from .._registry import NotApplicable, contract_check
from .._report import Finding
from .._violation import Violation

__all__ = (
    "clients_at_once",
    "restart_on_same_address",
    "restart_with_datagrams",
    "state_under_forking",
    "stop_during_request",
)

#: Clients at the same time, in the quick and in the full profile.
_CLIENTS = {"quick": (2, 8), "full": (2, 8, 32)}
#: Seconds that a stop may take while clients are in the midst of requests; and, if that was not enough, on a machine that may be busy.
_STOP, _STOP_AGAIN = 2.0, 6.0


def _many_at_once(kind: Kind) -> bool:
    return kind.concurrency not in ("sync", "selector")


@contract_check(
    "state",
    technique="live server",
    needs=("concurrent",),
    unless={"stateful": "what one does, others may see", "broadcast": "what one says, others hear"},
    kinds=_many_at_once,
)
def clients_at_once(case: Case) -> Iterator[Violation]:
    """Two, eight and thirty-two clients at the same time get what they get in turn.

    They connect to a server of the kind and begin together; each holds one of the conversations. The quick profile leaves the thirty-two out.
    """
    with case.serving() as running:
        for count in _CLIENTS[case.profile]:
            found = _together(case, running, count)
            if found:
                first = found[0]
                yield case.violation(
                    f"with {count} clients at once, {first.what}", details=first.details, also=len(found) - 1
                )
                return


def _together(case: Case, running: Running, count: int) -> list[Finding]:
    found: list[Finding] = []
    start = threading.Barrier(count)

    def client(conversation: Conversation) -> None:
        start.wait(case.timeout)
        finding = converse(running, conversation, case.timeout)
        if finding is not None:
            found.append(finding)

    chosen = [case.conversations[number % len(case.conversations)] for number in range(count)]
    threads = [threading.Thread(target=client, args=(one,), daemon=True) for one in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(case.timeout * 4)
    return found


@contract_check("state", technique="live server", needs=("forking",), kinds=lambda kind: kind.forks)
def state_under_forking(case: Case) -> Iterator[Violation]:
    """What clients may see of each other does not vanish in children.

    A server that forks serves each client in a process that forgets everything at its end, or shares nothing with the others. The conversations are held in
    turn, and twice each while all connections are open; where no two replies may be the same (`distinct`), none is.
    """
    with case.serving() as running:
        for conversation in case.conversations:
            for _ in range(2):
                finding = converse(running, conversation, case.timeout)
                if finding is not None:
                    yield case.violation(
                        f"in children, {finding.what}", sent=conversation.sent, details=finding.details
                    )
                    return
    if case.promises.distinct:
        yield from _all_distinct(case)


def _all_distinct(case: Case) -> Iterator[Violation]:
    conversation = case.conversations[0]
    with case.serving() as running:
        for _ in range(3):
            converse(running, conversation, case.timeout)
        came = _downstream(running)
    lines = [line for data in came for line in data.splitlines(keepends=True)]
    if len(set(lines)) < len(lines):
        twice = next(line for line in lines if lines.count(line) > 1)
        yield case.violation(
            "no two replies may be the same, but children give the same ones: what they remember is lost with them",
            sent=conversation.sent * 3,
            came=b"".join(lines),
            details=f"{twice!r} came {lines.count(twice)} times",
        )


def _downstream(running: Running) -> list[bytes]:
    transcript = running.transcript
    assert transcript is not None
    with suppress(ServertestError):
        transcript.wait_idle(timeout=2.0)
    return [connection.downstream for connection in transcript.connections]


@contract_check("lifecycle", technique="live server")
def stop_during_request(case: Case) -> Iterator[Violation]:
    """The server can be stopped while a client is in the midst of a request.

    When a server is stopped, the input of its connections ends. A handler that waits for more sees that and returns; nothing has to be forced within
    two seconds.
    """
    conversation = case.with_input()[0]
    pieces = conversation.pieces()
    problem = _stopped_with(case, pieces, _STOP)
    if problem:
        problem = _stopped_with(case, pieces, _STOP_AGAIN)  # the machine may have been busy
    if problem:
        yield case.violation(
            f"while a client is in the midst of a request, the server cannot be stopped within {_STOP_AGAIN:g} s",
            sent=pieces[0],
            details=problem,
        )


def _stopped_with(case: Case, pieces: tuple[bytes, ...], seconds: float) -> str:
    with case.serving(timeout=seconds) as running, running.connect(timeout=case.timeout) as client:
        with suppress(OSError):
            client.send_all(pieces[0] if len(pieces[0]) < 2 else pieces[0][: len(pieces[0]) // 2 + 1])
            client.read_some(1, timeout=0.02)  # whatever comes early; the server has had its turn then
        try:
            running.stop(seconds)
        except StillRunning as still:
            return str(still)
        except ServertestError:
            return ""
    return ""


@contract_check("lifecycle", technique="live server")
def restart_on_same_address(case: Case) -> Iterator[Violation]:
    """After the server has stopped, another one can take its address at once.

    Whatever still holds the listening socket (a copy of its descriptor, a child) keeps the address taken. The conversations are held before and after.
    """
    yield from _restarted(case)


@contract_check("lifecycle", transport="datagram", technique="live server", name="restart_on_same_address")
def restart_with_datagrams(case: Case) -> Iterator[Violation]:
    """After the server has stopped, another one can take its address at once."""
    yield from _restarted(case)


def _restarted(case: Case) -> Iterator[Violation]:
    with case.serving(host=case.kind.host) as running:
        for conversation in case.conversations[:3]:
            converse(running, conversation, case.timeout)
        running.errors.clear()
        try:
            running.restart()
        except AddressInUse as error:
            yield case.violation("when the server has stopped, its address stays taken", details=str(error))
            return
        except StillRunning as error:
            yield case.violation("the server cannot be stopped", details=str(error))
            return
        except UsageError as error:
            raise NotApplicable(str(error)) from None
        except ServertestError:
            pass  # what handlers raised belongs to other checks
        for conversation in case.conversations[:1] if not case.promises.stateful else ():
            finding = converse(running, conversation, case.timeout)
            if finding is not None:
                yield case.violation(
                    f"after a restart, {finding.what}", sent=conversation.sent, details=finding.details
                )

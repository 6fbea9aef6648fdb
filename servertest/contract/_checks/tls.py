"""Under TLS a connection is not quite a socket: the descriptor carries something else, and the end has two forms."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

from ...launch import Kind, Running
from ...transcript import Script, Send, Step
from .._case import Case
from .._conversation import Conversation
from .._live import converse, failures_of, script_of
from .._play import play
from .._registry import contract_check
from .._report import Finding
from .._violation import Violation

__all__ = ("tls_ragged_eof", "tls_same_replies", "tls_stalled_handshake")


def _plain_tcp(kind: Kind) -> bool:
    return not kind.tls and not kind.local and kind.concurrency in ("threading", "sync", "pool")


@contract_check("tls", technique="live server", needs=("tls",), kinds=_plain_tcp)
def tls_same_replies(case: Case) -> Iterator[Violation]:
    """Under TLS, conversations go as without it.

    They are held whole, and with each request cut into single bytes. What reads or writes the descriptor itself, peeks, or asks `select` what TLS has
    already taken in, does not work there.
    """
    with case.serving(tls=True) as running:
        for conversation in case.conversations:
            finding = converse(running, conversation, case.timeout) or _byte_by_byte(
                running, conversation, case
            )
            failures = failures_of(running.errors.clear())
            if finding is not None or failures:
                what = (
                    f"the handler raises {failures[0]}"
                    if failures
                    else finding.what
                    if finding is not None
                    else ""
                )
                details = (
                    failures[0].traceback_text if failures else finding.details if finding is not None else ""
                )
                yield case.violation(f"under TLS, {what}", sent=conversation.sent, details=details)
                return


def _byte_by_byte(running: Running, conversation: Conversation, case: Case) -> Finding | None:
    script = script_of(conversation)
    if len(conversation.sent) > 300:
        return None
    steps: list[Step] = []
    for step in script.steps:
        if isinstance(step, Send):
            steps += [Send(step.data[place : place + 1]) for place in range(len(step.data))]
        else:
            steps.append(step)
    return play(Script(script.number, "stream", tuple(steps)), running.connect(timeout=case.timeout))


@contract_check("tls", technique="live server", needs=("tls",), kinds=_plain_tcp)
def tls_ragged_eof(case: Case) -> Iterator[Violation]:
    """A client that goes away without ending TLS in good order does no harm.

    It closes its connection after each of its requests without a word, or cuts it off. The handler returns, raises nothing, and the next client is
    served.
    """
    with case.serving(tls=True) as running:
        for conversation in case.conversations:
            for count in range(1, len(conversation.exchanges) + 1):
                for reset in (False, True):
                    _leave(running, conversation.first(count), case.timeout, reset)
        assert running.transcript is not None
        with suppress(OSError):
            running.transcript.wait_idle(timeout=case.timeout)
        failures = failures_of(running.errors.clear())
        if failures:
            yield case.violation(
                f"a client that ends without ending TLS makes the handler raise {failures[0]}",
                sent=case.conversations[0].sent,
                details=failures[0].traceback_text,
                also=len(failures) - 1,
            )
        elif finding := converse(running, case.conversations[0], case.timeout):
            yield case.violation(
                f"after clients that did not end TLS, {finding.what}", details=finding.details
            )


def _leave(running: Running, conversation: Conversation, timeout: float, reset: bool) -> None:
    with suppress(OSError, AssertionError):
        client = running.connect(timeout=timeout)
        try:
            for exchange in conversation.exchanges:
                client.send_all(exchange.sent)
                if exchange.expected != b"" and not callable(exchange.expected):
                    client.expect(exchange.expected)
        finally:
            client.reset() if reset else client.socket.shutdown(socket.SHUT_RDWR)
            client.close()


@contract_check("tls", technique="live server", needs=("tls",), kinds=_plain_tcp)
def tls_stalled_handshake(case: Case) -> Iterator[Violation]:
    """A client that connects and never begins TLS holds up nobody on servers that serve many at a time."""
    if case.kind.concurrency == "sync":
        return
    with case.serving(tls=True) as running, running.connect(timeout=case.timeout, tls=None):
        finding = converse(running, case.conversations[0], case.timeout)
        if finding is not None:
            yield case.violation(
                f"while a client stalls the handshake, {finding.what}", details=finding.details
            )

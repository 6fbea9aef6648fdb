"""Holding conversations with a server that runs."""

from __future__ import annotations

from typing import Any

from ..launch import HandlerError, Running
from ..transcript import Expect, FinishSending, Script, Send
from ._answer import Answer
from ._conversation import Conversation
from ._plan import Failed
from ._play import play
from ._rehearsal import is_mild
from ._report import Finding

__all__ = ("converse", "failures_of", "script_of")


def script_of(conversation: Conversation) -> Script:
    """What a client does."""
    steps: list[Any] = []
    datagram = conversation.transport == "datagram"
    for number, exchange in enumerate(conversation.exchanges, 1):
        if exchange.sent or datagram:
            steps.append(Send(exchange.sent, line=exchange.line))
        if conversation.half_close and number == len(conversation.exchanges):
            steps.append(FinishSending(line=exchange.line))
        expected = exchange.expected
        if callable(expected) or (exchange.framing is not None and not isinstance(expected, bytes)):
            steps.append(Answer(expected, exchange.framing, exchange.line))
        elif expected != b"":
            steps.append(Expect(expected, line=exchange.line))
    return Script(conversation.number, conversation.transport, tuple(steps))


def converse(running: Running, conversation: Conversation, timeout: float, **options: Any) -> Finding | None:
    """Hold a conversation on a connection of its own.

    Args:
        running: The server.
        conversation: What is said and expected.
        timeout: Seconds for each step.
        options: As for `Running.connect`.

    Returns:
        What went wrong first, if anything did.
    """
    try:
        client = running.connect(timeout=timeout, **options)
    except OSError as error:
        return Finding(conversation.number, 0, "a client cannot connect", str(error))
    return play(script_of(conversation), client)


def failures_of(errors: list[HandlerError]) -> list[Failed]:
    """What handlers have raised, without what only says that a client was not there any more to read the end of a reply."""
    found = []
    for error in errors:
        mild = is_mild(error.traceback_text) and isinstance(error.exception, OSError)
        found.append(Failed(error.type_name, error.message, error.traceback_text, mild=mild))
    return [one for one in found if not one.mild]

"""Holding conversations with a server that runs."""

from __future__ import annotations

from typing import Any

from ..launch import HandlerError, Running
from ..transcript import Expect, FinishSending, Script, Send
from ._conversation import Conversation
from ._plan import Failed
from ._play import play
from ._rehearsal import is_mild
from ._report import Finding

__all__ = ("converse", "failures_of", "script_of")


def script_of(conversation: Conversation) -> Script:
    """What a client does; an answer of which only a function can tell whether it is right is not waited for."""
    steps: list[Any] = []
    for number, exchange in enumerate(conversation.exchanges, 1):
        if exchange.sent or conversation.transport == "datagram":
            steps.append(Send(exchange.sent))
        if conversation.half_close and number == len(conversation.exchanges):
            steps.append(FinishSending())
        if not callable(exchange.expected) and (
            exchange.expected != b"" or conversation.transport == "datagram"
        ):
            steps.append(Expect(exchange.expected))
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

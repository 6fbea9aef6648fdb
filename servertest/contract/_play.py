"""Holding a conversation with a server as a script says."""

from __future__ import annotations

from typing import Any

from .._support import DeadlineExceeded, Mismatch, PeerClosed, PeerReset
from ..transcript import Disconnect, Expect, ExpectEof, ExpectReset, FinishSending, Script, Send, Step
from ._answer import Answer, take_answer
from ._report import Finding

__all__ = ("play",)


def play(script: Script, client: Any) -> Finding | None:
    """Hold one conversation, and close the client.

    Args:
        script: What the client does.
        client: Connected to the server; its timeout holds for each step.

    Returns:
        What went wrong first; what follows would only be its consequence.
    """
    with client:
        for step in script.steps:
            try:
                _take(step, client)
            except (OSError, Mismatch) as error:
                return _finding(script, step, error)
    return None


def _take(step: Step | Answer, client: Any) -> None:
    match step:
        case Send(data):
            # A datagram is sent whole; a stream takes what it is given bit by bit.
            getattr(client, "send_all", client.send)(data)
        case Answer():
            take_answer(step, client)
        case Expect(expected):
            client.expect(expected)
        case FinishSending():
            client.half_close()
        case ExpectEof():
            rest = client.read_eof()
            if rest:
                raise Mismatch(
                    f"expected the end of the stream; {len(rest)} more byte(s) came: {rest[:80]!r}"
                )
        case ExpectReset():
            _expect_reset(client)
        case Disconnect(reset):
            if reset:
                client.reset()
            else:
                client.close()


def _expect_reset(client: Any) -> None:
    try:
        rest = client.read_eof()
    except PeerReset:
        return
    raise Mismatch(f"expected a reset; the connection ended in good order after {rest[:80]!r}")


def _finding(script: Script, step: Step, error: Exception) -> Finding:
    first, _, rest = str(error).partition("\n")
    what = {
        DeadlineExceeded: "no answer in time",
        PeerClosed: "the server closed the connection",
        PeerReset: "the server reset the connection",
        Mismatch: "the answer is not what was expected",
    }.get(type(error), f"{type(error).__name__}")
    doing = {
        Send: "sending",
        Expect: "waiting for an answer",
        Answer: "waiting for an answer",
        ExpectEof: "waiting for the end",
    }.get(type(step), "")
    return Finding(
        script.number,
        step.line or script.line,
        f"{what}{f', while {doing}' if doing and not isinstance(error, Mismatch) else ''}",
        f"{first}\n{rest}".rstrip(),
    )

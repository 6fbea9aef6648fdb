"""Whole messages on a stream, by the same framings that mock servers and recordings use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._wants import Want

if TYPE_CHECKING:
    from ..transcript import Framing
    from ._buffer import ReceiveBuffer
    from ._core import Data

__all__ = ("Message", "framed")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class Message(Want[bytes]):
    """One whole message, without what marks its end."""

    def __init__(self, framing: Framing) -> None:
        self.framing = _of_streams(framing)

    def __str__(self) -> str:
        return f"a message ({self.framing})"

    def take(self, buffer: ReceiveBuffer) -> bytes | None:
        return self._cut(buffer, ended=False)

    def at_end(self, buffer: ReceiveBuffer) -> bytes | None:
        return self._cut(buffer, ended=True)

    def _cut(self, buffer: ReceiveBuffer, *, ended: bool) -> bytes | None:
        from ..transcript import BadFrame

        if not buffer:
            return None
        try:
            cut = self.framing.cut(buffer.data, ended=ended)
        except BadFrame as error:
            raise BadFrame(f"{buffer.source} sent what is no message ({self.framing}): {error}") from None
        if cut is None:
            return None
        buffer.take(cut.size)
        return cut.message


def framed(message: Data, framing: Framing) -> bytes:
    """The bytes that stand for a message.

    Raises:
        UsageError: The message cannot be said in this framing, or that is none for streams.
    """
    return _of_streams(framing).wrap(bytes(message))


def _of_streams(framing: Framing) -> Framing:
    from ..transcript import check_framing

    check_framing(framing, "stream")
    return framing

"""What has come and was not read yet. No socket, no clock: bytes in, bytes out."""

from __future__ import annotations

__all__ = ("ReceiveBuffer",)


class ReceiveBuffer:
    """The bytes between the network and the reader.

    Bytes leave it only through `take`, in one step and in order; looking at them changes nothing. That is why a read
    that fails half-way loses none.

    Args:
        source: Who sends the bytes, for messages.

    Attributes:
        data: What is there. Look, and leave it as it is.
        eof: Whether the sender has said that nothing more follows.
        total: How many bytes have come in all.
    """

    __slots__ = ("data", "eof", "source", "total")

    def __init__(self, source: str = "the peer") -> None:
        self.source = source
        self.data = bytearray()
        self.eof = False
        self.total = 0

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<ReceiveBuffer {len(self.data)} of {self.total} bytes from {self.source}{' eof' * self.eof}>"

    def feed(self, data: bytes) -> None:
        """Add what has come."""
        self.data += data
        self.total += len(data)

    def feed_eof(self) -> None:
        """Note that nothing more will come."""
        self.eof = True

    def take(self, size: int) -> bytes:
        """Remove and return the first ``size`` bytes, or what there is of them."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

"""`rfile` and `wfile` of the handlers of a selector server: like the files of StreamRequestHandler, except that one awaits what may wait."""

from __future__ import annotations

from ._selector_task import DONE, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any, NoReturn, Self

    from ._selector_channel import Channel
    from ._selector_task import Steps, Wait

__all__ = ("IncompleteReadError", "SelectorReader", "SelectorWriter")

#: Bytes that are received at a time.
_CHUNK = 65536
#: The size of a buffer whose size is left to us, as in io.DEFAULT_BUFFER_SIZE.
_BUFFER = 8192


class IncompleteReadError(EOFError):
    """The client has ended its side before everything came that was asked for. `partial` holds what did come."""

    def __init__(self, partial: bytes, wanted: str) -> None:
        super().__init__(f"the client ended its side after {len(partial)} bytes, before {wanted}")
        self.partial = partial
        self.wanted = wanted

    def __reduce__(self) -> Any:
        return type(self), (self.partial, self.wanted)


class SelectorReader:
    """What the client sends. Every method that reads has to be awaited, or in a generator to be called with `yield from`.

    A read that fails, be it because the handler's `timeout` has passed, loses nothing: what has come is there for the next one.
    """

    __slots__ = ("_at_end", "_buffer", "_channel", "_closed", "_start", "max_line")

    def __init__(self, channel: Channel, max_line: int) -> None:
        self._channel = channel
        self.max_line = max_line
        self._buffer: bytes | bytearray = b""
        self._start = 0  # of what was not read yet
        self._at_end = False
        self._closed = False

    # -- lines ------------------------------------------------------------------------------------------------------------

    @waits
    def readline(self, limit: int | None = -1) -> Generator[Wait, None, bytes]:
        r"""Read a line with its b"\n": a shorter one at the end of what the client sends, and b"" after that.

        Args:
            limit: return so many bytes of the line at most, as a file does. None or -1: take it whole.

        Raises:
            ValueError: no limit was given, and the line has more than `max_line` bytes. It stays unread.
        """
        channel = self._channel
        channel.credit -= 1
        if channel.credit < 0:
            yield from channel.give_way()
        is_whole = limit is None or limit < 0
        most: int = self.max_line if is_whole else limit  # type: ignore[assignment]  # not None then
        searched = 0
        while True:
            start = self._start
            end = self._buffer.find(b"\n", start + searched) + 1
            size = (end or len(self._buffer)) - start
            if size > most or (size == most and not end and not is_whole):
                if is_whole:
                    raise ValueError(_too_long("line", most))
                return self._take(most)
            if end:
                return self._take(size)
            searched = size
            if not (yield from self._fill()):
                return self._take(size)

    @waits
    def readuntil(self, separator: bytes = b"\n", limit: int | None = None) -> Generator[Wait, None, bytes]:
        """Read up to `separator`, and with it.

        Args:
            separator: one byte or more.
            limit: how many bytes it may be with the separator; None stands for `max_line`.

        Raises:
            IncompleteReadError: the client has ended its side before. What came is in its `partial`, and was taken.
            ValueError: the limit was reached; everything stays unread. Or the separator is empty.
        """
        if not separator:
            raise ValueError("an empty separator is nowhere")
        most = self.max_line if limit is None else limit
        searched = 0
        while True:
            start = self._start
            found = self._buffer.find(separator, start + searched)
            size = (found + len(separator) if found >= 0 else len(self._buffer)) - start
            if size > most:
                raise ValueError(_too_long(f"piece up to {separator!r}", most))
            if found >= 0:
                return self._take(size)
            searched = max(size - len(separator) + 1, 0)
            if not (yield from self._fill()):
                raise IncompleteReadError(self._take(size), f"{separator!r} came")

    def __aiter__(self) -> Self:
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "on a selector server, read lines with `async for line in self.rfile`, or with `yield from self.rfile.readline()`"
        )

    @waits
    def __anext__(self) -> Generator[Wait, None, bytes]:
        line = yield from self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # -- bytes ------------------------------------------------------------------------------------------------------------

    @waits
    def read(self, size: int | None = -1) -> Generator[Wait, None, bytes]:
        """Read `size` bytes, or fewer if the client ends its side before. None or -1: everything up to that end."""
        most = None if size is None or size < 0 else size
        while most is None or len(self._buffer) - self._start < most:
            if not (yield from self._fill()):
                break
        return self._take(len(self._buffer) - self._start if most is None else most)

    @waits
    def readexactly(self, size: int) -> Generator[Wait, None, bytes]:
        """Read `size` bytes.

        Raises:
            IncompleteReadError: the client has ended its side before. What came is in its `partial`, and was taken.
        """
        data = yield from self.read(max(size, 0))
        if len(data) < size:
            raise IncompleteReadError(data, f"{size} bytes came")
        return data

    @waits
    def read1(self, size: int | None = -1) -> Generator[Wait, None, bytes]:
        """Read what is there, `size` bytes at most (None or -1: as many as there are), and wait only if there is nothing."""
        most = _CHUNK if size is None or size < 0 else size
        if most and self._start == len(self._buffer):
            yield from self._fill()
        return self._take(most)

    # -- the buffer -------------------------------------------------------------------------------------------------------

    @waits
    def _fill(self) -> Generator[Wait, None, bool]:
        """Receive more. Returns whether anything came; nothing does after the client has ended its side."""
        if self._closed:
            raise ValueError("read of closed file")
        if self._at_end:
            return False
        data = yield from self._channel.receive(_CHUNK)
        if not data:
            self._at_end = True
            return False
        buffer = self._buffer
        if self._start == len(buffer):
            self._buffer = data
        else:
            if isinstance(buffer, bytes):
                self._buffer = buffer = bytearray(buffer[self._start :])
            else:
                del buffer[: self._start]
            buffer += data
        self._start = 0
        return True

    def _take(self, size: int) -> bytes:
        start, buffer = self._start, self._buffer
        end = start + size
        data = bytes(buffer[start:end])
        if end >= len(buffer):
            self._buffer, self._start = b"", 0
        else:
            self._start = end
        return data

    # -- like a file ------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def close(self) -> None:
        """Read no more. The connection stays open: the server ends it after finish()."""
        self._closed = True

    def readable(self) -> bool:
        """Whether it can be read from at all, as of any file: yes."""
        return True

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._channel.fd


class SelectorWriter:
    """What the client is sent.

    write() and the like send at once what the kernel takes. The rest is kept, and sent as the client makes room for it; await them (in a generator: `yield
    from`) to wait until that is done. A handler that never does may fill the memory with what its clients do not fetch.

    Only the thread of the server's loop may write. It may write to any connection that the loop serves.
    """

    __slots__ = ("_channel", "_closed", "_gathered", "_size")

    def __init__(self, channel: Channel, size: int) -> None:
        """A writer that gathers `size` bytes before it sends them; -1 leaves the number to us, and 0 gathers nothing."""
        self._channel = channel
        self._closed = False
        self._size = _BUFFER if size < 0 else size
        self._gathered = bytearray()

    def write(self, data: Any) -> Steps[None]:
        """Send these bytes, or whatever offers them through the buffer protocol.

        Raises:
            OSError: the connection is broken; that may have become known with an earlier write.
            ValueError: the handler has finished, or closed this file.
        """
        if self._closed:
            raise ValueError("write to closed file")
        if type(data) is not bytes:
            data = memoryview(data).cast("B")
        if not self._size:
            return self._channel.put(data)
        self._gathered += data
        return self._send_gathered() if len(self._gathered) >= self._size else DONE

    def writelines(self, lines: Iterable[Any]) -> Steps[None]:
        """Send all of these, one after the other."""
        return self.write(b"".join(lines))

    def flush(self) -> Steps[None]:
        """Send what was gathered; awaiting it waits for whatever was written before."""
        if self._closed:
            raise ValueError("flush of closed file")
        if self._gathered:
            return self._send_gathered()
        outbox = self._channel.outbox
        return self._channel.put(b"") if outbox is not None and outbox.is_active else DONE

    def _send_gathered(self) -> Steps[None]:
        data, self._gathered = self._gathered, bytearray()
        return self._channel.put(memoryview(data))

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._closed

    def close(self) -> None:
        """Send what was gathered, and write no more. What the client has still to fetch goes on its way. The connection stays open."""
        if not self._closed:
            try:
                self.flush()
            finally:
                self._closed = True

    def writable(self) -> bool:
        """Whether it can be written to at all, as of any file: yes."""
        return True

    def fileno(self) -> int:
        """The descriptor of the connection."""
        return self._channel.fd


def _too_long(what: str, most: int) -> str:
    return f"the client sends a {what} of more than {most} bytes: refuse it, or set max_line on the handler (or give a limit)"

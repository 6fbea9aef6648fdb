"""rfile and wfile of a selector server's handlers."""

from __future__ import annotations

import array
import asyncio
import contextlib
import io
import pickle
import socket
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from servertest.servers._selecting import IncompleteReadError
from tests.servers._selecting import Handler, converse, peer_does, small_buffers, turns

# -- reading ------------------------------------------------------------------------------------------------------------------


def test_lines_that_come_together_and_in_pieces() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"one\ntwo\nthr")
        lines = [await handler.rfile.readline(), await handler.rfile.readline()]
        peer_does(
            handler, lambda: peer.sendall(b"e"), lambda: peer.sendall(b"e\nfour\nfi"), lambda: peer.close()
        )
        return lines + [await handler.rfile.readline() for _ in range(5)]

    assert converse(script) == [b"one\n", b"two\n", b"three\n", b"four\n", b"fi", b"", b""]


def test_a_line_in_single_bytes() -> None:
    line = b"drop by drop\n"

    async def script(handler: Any, peer: socket.socket) -> bytes:
        peer_does(handler, *(lambda byte=byte: peer.send(bytes([byte])) for byte in line))
        return bytes(await handler.rfile.readline())

    assert converse(script) == line


def test_iteration_over_lines() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"a\nb\nc")
        peer.shutdown(socket.SHUT_WR)
        return [line async for line in handler.rfile]

    assert converse(script) == [b"a\n", b"b\n", b"c"]


def test_iteration_as_over_a_blocking_file_says_how_it_is_done() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        for _ in handler.rfile:
            pass

    with pytest.raises(TypeError, match=r"async for line in self.rfile"):
        converse(script)


@pytest.mark.parametrize(
    ("limit", "pieces"),
    [
        (2, [b"ab", b"cd", b"\n", b"ef"]),
        (5, [b"abcd\n", b"ef"]),
        (0, [b""]),
        (None, [b"abcd\n"]),
        (-1, [b"abcd\n"]),
    ],
)
def test_readline_with_a_limit_is_that_of_a_file(limit: int | None, pieces: list[bytes]) -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"abcd\nef")
        peer.shutdown(socket.SHUT_WR)
        return [await handler.rfile.readline(limit) for _ in pieces]

    file = io.BytesIO(b"abcd\nef")
    assert converse(script) == pieces == [file.readline(limit) for _ in pieces]


@pytest.mark.parametrize("together", [True, False])
def test_a_line_longer_than_max_line_is_refused_and_stays(together: bool) -> None:
    async def script(handler: Any, peer: socket.socket) -> tuple[bytes, bytes]:
        if together:
            peer.sendall(b"123456789\n")
        else:
            peer_does(handler, lambda: peer.sendall(b"12345"), lambda: peer.sendall(b"6789\n"))
        for _ in range(2):
            with pytest.raises(ValueError, match="more than 8 bytes: refuse it, or set max_line"):
                await handler.rfile.readline()
        return await handler.rfile.readline(100), b""

    assert converse(script, max_line=8)[0].startswith(b"123456789")


def test_a_line_of_exactly_max_line_is_fine() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        peer_does(handler, lambda: peer.sendall(b"1234567"), lambda: peer.sendall(b"\n"))
        return bytes(await handler.rfile.readline())

    assert converse(script, max_line=8) == b"1234567\n"


def test_readuntil_a_separator_that_comes_in_two() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer_does(
            handler, lambda: peer.sendall(b"head: 1\r\n\r"), lambda: peer.sendall(b"\nbody\r\n\r\nrest")
        )
        first = await handler.rfile.readuntil(b"\r\n\r\n")
        second = await handler.rfile.readuntil(b"\r\n\r\n")
        return [first, second, await handler.rfile.read1()]

    assert converse(script) == [b"head: 1\r\n\r\n", b"body\r\n\r\n", b"rest"]


def test_readuntil_of_what_never_comes() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"abc")
        peer.shutdown(socket.SHUT_WR)
        partials = []
        for _ in range(2):
            with pytest.raises(
                IncompleteReadError, match=r"ended its side after \d bytes, before b';' came"
            ) as caught:
                await handler.rfile.readuntil(b";")
            partials.append(caught.value.partial)
        return partials

    assert converse(script) == [b"abc", b""]


def test_readuntil_with_a_limit() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        peer.sendall(b"abc;def;")
        assert await handler.rfile.readuntil(b";", 4) == b"abc;"
        with pytest.raises(ValueError, match="more than 3 bytes"):
            await handler.rfile.readuntil(b";", 3)
        with pytest.raises(ValueError, match="empty separator"):
            await handler.rfile.readuntil(b"")
        return bytes(await handler.rfile.readuntil(b";"))

    assert converse(script) == b"def;"


def test_read_and_readexactly() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer_does(handler, lambda: peer.sendall(b"12"), lambda: peer.sendall(b"345678"))
        pieces = [
            await handler.rfile.read(4),
            await handler.rfile.readexactly(2),
            await handler.rfile.read(0),
        ]
        peer_does(handler, lambda: peer.sendall(b"9"), lambda: peer.close())
        with pytest.raises(IncompleteReadError, match="after 3 bytes, before 5 bytes came") as caught:
            await handler.rfile.readexactly(5)
        return [*pieces, caught.value.partial, await handler.rfile.read(5), await handler.rfile.read()]

    assert converse(script) == [b"1234", b"56", b"", b"789", b"", b""]


@pytest.mark.parametrize("size", [None, -1])
def test_read_to_the_end(size: int | None) -> None:
    async def script(handler: Any, peer: socket.socket) -> tuple[bytes, bytes]:
        peer.sendall(b"a\nb")
        await handler.rfile.readline()
        peer_does(handler, lambda: peer.sendall(b"c" * 1000), lambda: peer.shutdown(socket.SHUT_WR))
        return await handler.rfile.read(size), await handler.rfile.read(size)

    assert converse(script) == (b"b" + b"c" * 1000, b"")


def test_read1_waits_only_if_there_is_nothing() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.sendall(b"abcde")
        pieces = [await handler.rfile.read1(2), await handler.rfile.read1(0), await handler.rfile.read1(9)]
        peer_does(handler, lambda: peer.sendall(b"f"), lambda: peer.close())
        return [*pieces, await handler.rfile.read1(), await handler.rfile.read1()]

    assert converse(script) == [b"ab", b"", b"cde", b"f", b""]


def test_a_read_that_fails_loses_nothing() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        peer.sendall(b"half")
        for read in (handler.rfile.readline, handler.rfile.read, handler.rfile.readuntil):
            with pytest.raises(TimeoutError, match=r"has sent nothing for 0.001 s"):
                await read()
        peer.sendall(b" whole\n")
        return bytes(await handler.rfile.readline())

    assert converse(script, timeout=0.001) == b"half whole\n"


def test_a_reader_that_finds_more_and_more_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.servers._selector_files._CHUNK", 10)
    others: list[bool] = []

    async def script(handler: Any, peer: socket.socket) -> None:
        peer.sendall(bytes(200))
        peer_does(handler, lambda: others.append(True))
        for _ in range(20):
            assert len(await handler.rfile.read1()) == 10

    converse(script)
    assert others == [True]


def test_a_reset_is_an_error() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        handler.wfile.write(b"unread")  # on a Unix socket, closing with this unread resets
        peer.close()
        await handler.rfile.readline()

    with pytest.raises(ConnectionResetError):
        converse(script)


def test_as_a_file() -> None:
    kept: list[Any] = []

    async def script(handler: Any, peer: socket.socket) -> None:
        kept[:] = [handler.rfile, handler.wfile]
        assert handler.rfile.fileno() == handler.wfile.fileno() == handler.connection.fileno()
        assert handler.rfile.readable()
        assert handler.wfile.writable()
        assert not handler.rfile.closed
        assert not handler.wfile.closed
        handler.rfile.close()
        with pytest.raises(ValueError, match="read of closed file"):
            await handler.rfile.readline()

    converse(script)
    rfile, wfile = kept
    assert rfile.closed
    assert wfile.closed
    for late in (lambda: wfile.write(b"x"), wfile.flush):
        with pytest.raises(ValueError, match="closed file"):
            late()


def test_the_error_of_an_incomplete_read_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(IncompleteReadError(b"abc", "more came")))
    assert (error.partial, str(error)) == (
        b"abc",
        "the client ended its side after 3 bytes, before more came",
    )


OPERATIONS = st.one_of(
    st.tuples(st.just("readline"), st.integers(-1, 6)),
    st.tuples(st.just("read"), st.integers(0, 6)),
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.text("ab\n", min_size=1, max_size=6).map(str.encode), max_size=6),
    operations=st.lists(OPERATIONS, max_size=10),
)
def test_reads_as_a_file_reads(pieces: list[bytes], operations: list[tuple[str, int]]) -> None:
    """However the bytes are cut on their way, and whatever is read: it is what a file would give."""

    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer_does(handler, *(lambda piece=piece: peer.sendall(piece) for piece in pieces), peer.close)
        return [await getattr(handler.rfile, name)(size) for name, size in [*operations, ("read", -1)]]

    file = io.BytesIO(b"".join(pieces))
    assert converse(script) == [getattr(file, name)(size) for name, size in [*operations, ("read", -1)]]


# -- writing ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"some bytes", bytearray(b"some bytes"), memoryview(b"-some bytes-")[1:-1], array.array("I", [1, 2, 3])],
    ids=["bytes", "bytearray", "memoryview", "array"],
)
def test_whatever_holds_bytes_can_be_written(data: Any) -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        await handler.wfile.write(data)
        return peer.recv(100)

    assert converse(script) == bytes(memoryview(data).cast("B"))


def test_text_cannot_be_written() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        await handler.wfile.write("text")

    with pytest.raises(TypeError, match="bytes-like object is required"):
        converse(script)


def test_writelines() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        await handler.wfile.writelines([b"one\n", bytearray(b"two\n")])
        await handler.wfile.writelines(())
        return peer.recv(100)

    assert converse(script) == b"one\ntwo\n"


class Fetcher:
    """A peer that fetches everything, a piece in each turn of the loop, while the handler waits."""

    def __init__(self, handler: Any, peer: socket.socket) -> None:
        self.got = bytearray()
        self._peer = peer
        peer.setblocking(False)
        self._soon = handler._servertest_task.loop.call_soon
        self._soon(self.fetch)

    def fetch(self) -> None:
        try:
            data = self._peer.recv(1000)
        except BlockingIOError:
            data = None
        except OSError:
            return  # closed: the conversation is over
        if data != b"":
            self.got += data or b""
            self._soon(self.fetch)


BULK = bytes(range(256)) * 200


def test_awaiting_a_write_waits_until_all_is_sent() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        small_buffers(handler.request, peer)
        fetcher = Fetcher(handler, peer)
        assert not fetcher.got
        await handler.wfile.write(BULK)
        handler.request.shutdown(socket.SHUT_WR)
        peer.setblocking(True)
        rest = peer.makefile("rb").read()
        assert fetcher.got
        assert len(fetcher.got) >= len(BULK) - 70_000  # all but what the kernel holds
        return bytes(fetcher.got) + rest

    assert converse(script) == BULK


def test_what_is_not_awaited_is_sent_all_the_same_and_in_order() -> None:
    """While the handler waits for something else; and what is left when handle() returns, before the connection ends."""
    got = bytearray()

    async def script(handler: Any, peer: socket.socket) -> None:
        small_buffers(handler.request, peer)
        changing = bytearray(BULK)
        handler.wfile.write(b"first ")
        handler.wfile.write(changing)
        changing[:] = bytes(len(changing))  # what was written is not touched by this
        handler.wfile.write(b" last")
        fetcher = Fetcher(handler, peer)
        await turns(handler, 100)
        assert fetcher.got
        fetcher.got, kept = got, fetcher.got
        got[:] = kept

    converse(script)
    everything = b"first " + BULK + b" last"
    assert bytes(got) == everything[: len(got)]
    assert len(got) >= len(BULK) // 2


def test_the_client_gets_everything_that_was_written_before_the_connection_ends() -> None:
    ours, theirs = socket.socketpair()
    small_buffers(ours, theirs)
    fetchers = []

    class Hasty(Handler):
        timeout = 5

        def handle(self) -> None:
            self.wfile.write(BULK)
            fetchers.append(Fetcher(self, theirs))

    with ours, theirs:
        Hasty(ours, "the peer", None)
        ours.close()
        theirs.setblocking(True)
        rest = theirs.makefile("rb").read()
    assert fetchers[0].got + rest == BULK


def test_a_reader_too_slow_for_the_timeout() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        small_buffers(handler.request, peer)
        with pytest.raises(TimeoutError, match=r"has taken nothing for 0.002 s; \d+ bytes are left to send"):
            await handler.wfile.write(BULK)
        peer_does(handler, lambda: waited.append(True))

    waited: list[bool] = []
    converse(script, timeout=0.002)
    assert waited == []  # when it has ended, it does not wait for the same client once more


def test_a_slow_reader_that_moves_is_not_too_slow() -> None:
    async def script(handler: Any, peer: socket.socket) -> int:
        small_buffers(handler.request, peer)
        deadlines = set()
        wait = handler.wfile.write(BULK)
        fetcher = Fetcher(handler, peer)
        fetch = fetcher.fetch

        def note() -> None:
            deadlines.add(handler._servertest_task.deadline)
            fetch()

        fetcher.fetch = note  # type: ignore[method-assign]
        await wait
        return len(deadlines)

    assert converse(script) > 2  # the limit begins anew whenever the client has taken something


def test_writing_to_a_client_that_has_gone() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        peer.close()
        with pytest.raises(BrokenPipeError):
            await handler.wfile.write(b"anybody?")

    converse(script)


def test_what_could_not_be_sent_is_an_error_of_the_next_write() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        small_buffers(handler.request, peer)
        handler.wfile.write(BULK)
        peer_does(handler, peer.close)
        await turns(handler)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            handler.wfile.flush()
        handler.wfile.flush()  # it is said once
        with pytest.raises(BrokenPipeError):
            handler.wfile.write(b"x")

    converse(script)


def test_a_client_that_goes_while_it_is_written_to() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        small_buffers(handler.request, peer)
        peer_does(handler, peer.close)
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            await handler.wfile.write(BULK)

    converse(script)


def test_gathered_writes() -> None:
    async def script(handler: Any, peer: socket.socket) -> list[bytes]:
        peer.setblocking(False)
        pieces = []
        for data in (b"12", b"345", b"6789", b"0"):
            await handler.wfile.write(data)
            try:
                pieces.append(peer.recv(100))
            except BlockingIOError:
                pieces.append(b"")
        await handler.wfile.flush()
        return [*pieces, peer.recv(100)]

    assert converse(script, wbufsize=8) == [b"", b"", b"123456789", b"", b"0"]
    assert converse(script, wbufsize=-1) == [b"", b"", b"", b"", b"1234567890"]


def test_what_was_gathered_is_sent_at_the_end() -> None:
    ours, theirs = socket.socketpair()

    class Gatherer(Handler):
        wbufsize = 100

        def handle(self) -> None:
            self.wfile.write(b"the end")

    with ours, theirs:
        Gatherer(ours, "the peer", None)
        ours.close()
        assert theirs.makefile("rb").read() == b"the end"


def test_gathered_writes_to_a_client_that_has_gone() -> None:
    """That is no error when the handler has finished."""

    async def script(handler: Any, peer: socket.socket) -> None:
        handler.wfile.write(b"anybody?")
        peer.close()

    converse(script, wbufsize=100)


def test_closing_wfile_twice() -> None:
    async def script(handler: Any, peer: socket.socket) -> bytes:
        handler.wfile.write(b"last")
        handler.wfile.close()
        handler.wfile.close()
        return peer.recv(100)

    assert converse(script, wbufsize=100) == b"last"


def test_writing_when_the_kernel_is_full_to_the_last_byte() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                handler.request.send(b"x")
        fetcher = Fetcher(handler, peer)
        await handler.wfile.write(b"y")
        while not fetcher.got.endswith(b"y"):
            await handler.sleep(0)

    converse(script)


def test_flush_waits_for_earlier_writes() -> None:
    async def script(handler: Any, peer: socket.socket) -> bool:
        small_buffers(handler.request, peer)
        await handler.wfile.flush()  # nothing to wait for
        handler.wfile.write(BULK)
        Fetcher(handler, peer)
        await handler.wfile.flush()
        return not handler._servertest_task.channel.outbox.pending

    assert converse(script)


def test_something_of_asyncio_is_refused() -> None:
    async def script(handler: Any, peer: socket.socket) -> None:
        loop = asyncio.new_event_loop()
        try:
            with pytest.raises(TypeError, match="asyncio's need the loop of asyncio"):
                await loop.create_future()
        finally:
            loop.close()
        assert await handler.rfile.read1(1) == b""

    def closes(handler: Any, peer: socket.socket) -> Any:
        peer.shutdown(socket.SHUT_WR)
        return script(handler, peer)

    converse(closes)

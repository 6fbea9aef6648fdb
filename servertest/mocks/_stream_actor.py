"""Plays a performance on a connected socket: the thread that the server gave the connection to, waiting for three things at once."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support import hard_reset
from ..servers._loop import Waker
from ._acts import Ending

if TYPE_CHECKING:
    from ._bridge import Bank
    from ._performance import Performance

__all__ = ("StreamActor",)

_CHUNK = 65_536

#: Seconds that a TLS client gets to say goodbye, once the script has closed the connection.
_LINGER = 0.25


class StreamActor:
    """Moves bytes between a socket and a performance until one of them ends it.

    Args:
        sock: The connection. It is left to be closed by the server, unless the script resets it.
        performance: What is played.
        progressed: Called after anything has happened.
    """

    def __init__(self, sock: Any, performance: Performance | Bank, progressed: Callable[[], object]) -> None:
        self.performance = performance
        self.settled = False
        self._sock = sock
        self._progressed = progressed
        self._waker = Waker()
        self._out: deque[bytes | Ending] = deque()
        self._stopping = self._saw_end = self._gone = False
        # A TLS socket may have to write in order to read, and the other way round.
        self._wants_write = False

    def wake(self) -> None:
        """Have it look at the script again; from any thread."""
        self._waker.wake()

    def stop(self) -> None:
        """Have it take in what has come, and leave; from any thread."""
        self._stopping = True
        self._waker.wake()

    def play(self) -> None:
        """Play to the end."""
        self._sock.setblocking(False)
        try:
            self.performance.open(monotonic())
            while self._turn():
                self._progressed()
        finally:
            self.settled = True
            self._waker.close()
            self._progressed()

    def _turn(self) -> bool:
        """Do what is due and wait for what comes next; whether to go on."""
        performance = self.performance
        self._out.extend(performance.take(monotonic()))
        if not self._give() or self._gone:
            return False
        self._progressed()
        if self._stopping:
            self._take_the_rest()
            return False
        self._await()
        self._waker.clear()
        if not self._saw_end and not performance.hung:
            self._take()
        performance.refresh(monotonic())
        return True

    def _await(self) -> None:
        due = self.performance.due
        seconds = math.inf if due is None else max(0.0, due - monotonic())
        reading = not (self._saw_end or self.performance.hung or self.performance.full)
        if reading and self._pending():
            return
        if not hasattr(select, "poll"):
            self._await_by_select(reading, seconds)
            return
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        events = (select.POLLIN if reading else 0) | (select.POLLOUT if self._out or self._wants_write else 0)
        if events or not self._saw_end:
            poll.register(self._sock.fileno(), events)
        # Rounded up: a wait that ends too early would only be repeated.
        found = poll.poll(None if seconds == math.inf else math.ceil(seconds * 1000))
        if not events and any(descriptor != self._waker.fileno() for descriptor, _ in found):
            self._lose()

    def _await_by_select(self, reading: bool, seconds: float) -> None:
        readers = [self._waker.fileno(), *([self._sock] if reading else [])]
        writers = [self._sock] if self._out or self._wants_write else []
        select.select(readers, writers, [], None if seconds == math.inf else seconds)

    def _pending(self) -> bool:
        """Whether a TLS socket holds decrypted bytes, of which the system knows nothing."""
        pending = getattr(self._sock, "pending", None)
        return pending is not None and pending() > 0

    # -- reading

    def _take(self) -> None:
        """Read once, as much as there is up to a size."""
        self._wants_write = False
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionError:
            self._lose()
            return
        except OSError as error:
            self._take_tls_error(error)
            return
        if data:
            self.performance.receive(data, monotonic())
        else:
            self._saw_end = True
            self.performance.finish(monotonic())

    def _take_tls_error(self, error: OSError) -> None:
        name = type(error).__name__
        if name == "SSLWantWriteError":
            self._wants_write = True
        elif name == "SSLWantReadError":
            pass
        elif name in ("SSLEOFError", "SSLZeroReturnError"):
            self._saw_end = True
            self.performance.finish(monotonic())
        else:
            self._lose()

    def _take_the_rest(self) -> None:
        """What the client has sent before the end came is part of the conversation."""
        performance = self.performance
        before = -1
        while not (self._saw_end or self._gone or performance.hung or performance.over):
            self._take()
            came = performance.came
            self._out.extend(performance.take(monotonic()))
            if not self._give() or came == before:
                return
            before = came

    def _lose(self) -> None:
        self._gone = self._saw_end = True
        self.performance.cut(monotonic())

    # -- writing

    def _give(self) -> bool:
        """Send what can be sent; whether the connection is still there."""
        while self._out:
            what = self._out[0]
            if isinstance(what, Ending):
                self._out.popleft()
                if not self._end(what):
                    return False
            elif not self._send(what):
                return True
        return True

    def _send(self, data: bytes) -> bool:
        """Whether all was taken."""
        try:
            count = self._sock.send(data) if data else 0
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                return False
            self._out.clear()
            self._lose()
            return False
        self._out.popleft()
        if count < len(data):
            self._out.appendleft(data[count:])
        return count == len(data)

    def _end(self, ending: Ending) -> bool:
        if ending is Ending.RESET:
            hard_reset(self._sock)
            return False
        if ending is Ending.FINISH:
            self._finish()
            return True
        tls = self._speaks_tls()
        self._finish()
        # Bytes that nobody has read would turn the close into a reset.
        if tls:
            self._linger()
        else:
            self._discard()
        return False

    def _speaks_tls(self) -> bool:
        return getattr(self._sock, "_sslobj", None) is not None

    def _finish(self) -> None:
        try:
            if self._speaks_tls():
                self._say_goodbye()
            else:
                self._sock.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            pass  # the client was faster

    def _say_goodbye(self) -> None:
        """Half-close TLS: a TLS socket's own shutdown() would end its reading, too, for it turns TLS off."""
        observation = getattr(self._sock, "servertest_observation", None)
        if observation is not None:
            observation.shut(reading=False, writing=True)
        with _deaf(self._sock) as written:
            try:
                self._sock.unwrap()
            except OSError as error:
                if type(error).__name__ != "SSLWantReadError":
                    raise
        if goodbye := written():
            socket.socket.send(self._sock, goodbye)
        if not self._speaks_tls() and not self._saw_end:
            # The client had said goodbye before, so TLS is off: what might follow is none of ours.
            self._saw_end = True
            self.performance.finish(monotonic())

    def _linger(self) -> None:
        """Give the client a moment to say goodbye as well: a close before that would be answered with a reset."""
        end = monotonic() + _LINGER
        self._sock.settimeout(_LINGER)
        with contextlib.suppress(OSError, ValueError):
            while monotonic() < end and not self._stopping and socket.socket.recv(self._sock, _CHUNK):
                pass

    def _discard(self) -> None:
        try:
            while self._sock.recv(_CHUNK):
                pass
        except (OSError, ValueError):
            pass  # nothing more, or the client has gone


@contextlib.contextmanager
def _deaf(sock: Any) -> Iterator[Callable[[], bytes]]:
    """Let a TLS socket write to nobody, and find nothing to be read, in this block; what it has written is returned.

    For OpenSSL, when it has said goodbye, looks at once for the goodbye of the peer, and throws away what it finds instead.
    """
    if os.name != "posix":
        yield lambda: b""
        return
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        aside = os.dup(sock.fileno())
        os.dup2(theirs.fileno(), sock.fileno(), inheritable=False)
        try:
            yield lambda: written
        finally:
            os.dup2(aside, sock.fileno(), inheritable=False)
            os.close(aside)
            try:
                written = ours.recv(_CHUNK)
            except BlockingIOError:
                written = b""

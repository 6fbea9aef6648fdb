"""A connection as a selector server's loop sees it.

A Channel knows the events for which the kernel was last told to watch, and tells it again only if more are wanted, or if one came that nobody
wanted: between two reads of a handler READ stays watched, so that a connection which goes back and forth between reading
and writing costs the loop one call of the kernel for each read, and none to prepare it. Events are level-triggered. So a receive
that returned less than was asked for needs no second one to find the queue empty: the next thing to do is to wait, and whatever has come in the
meantime, be it data or the end, ends the wait.

Writing never waits by itself: what the kernel does not take is kept, and sent as the peer makes room for it, whether or not the handler awaits
that. A handler that awaits it has its back-pressure; one that does not (a chat server that writes to forty others) loses nothing.

No handler may keep the loop to itself because its peer is fast, so one that could go on for ever without waiting gives way now and then.
"""

from __future__ import annotations

import errno
import sys
from collections import deque

from ._selector_task import DONE, GIVE_WAY, READ, WRITE, Wait, waits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    from ._selector_task import Steps, Task

__all__ = ("CREDIT", "FULL_RECEIVES", "Channel", "make_channel")

#: How many times a handler may read or write without waiting before it gives way.
CREDIT = 64
#: How many times it may receive, without waiting, as much as it asked for: the kernel has more then.
FULL_RECEIVES = 4


class Channel(Wait):
    """A connection in a loop; as a Wait: for something to receive."""

    __slots__ = (
        "_armed",
        "_reader",
        "_task",
        "credit",
        "fd",
        "outbox",
        "read_on",
        "receive_now",
        "send_now",
        "sock",
        "unread",
        "write_on",
    )

    def __init__(self, sock: Any, task: Task) -> None:
        self.sock = sock
        self.fd: int = sock.fileno()
        self.receive_now = sock.recv
        self.send_now = sock.send
        self.credit = CREDIT
        self.unread = 1  # how often to receive before waiting: once, for the client may have sent already
        self.read_on = (
            READ  # the events that reading and writing wait for; in TLS it may be the other way round
        )
        self.write_on = WRITE
        self.outbox: Outbox | None = None
        self._armed = 0  # what the selector was told
        self._task = task
        self._reader: Task | None = None

    # -- waiting ----------------------------------------------------------------------------------------------------------

    def begin(self, task: Task) -> None:
        if self._reader is not None:
            raise RuntimeError(f"somebody reads already what {self._task.peer} sends")
        self.arm(self.read_on)
        self._reader = task
        task.expect(task.limit)

    def forget(self, task: Task) -> None:
        self._reader = None

    def complaint(self, task: Task) -> str:
        return f"{self._task.peer} has sent nothing for {task.limit} s"

    def is_for(self, fileobj: Any) -> bool:
        """Whether `fileobj` is this connection."""
        return fileobj is self.sock or (fileobj == self.fd and self.sock.fileno() == self.fd)

    def arm(self, events: int) -> None:
        """Have the loop report these events beside those that it reports already."""
        armed = self._armed | events
        loop = self._task.loop
        if armed == self._armed or loop is None:  # None: between two loops; join_loop() will do it
            return
        if self._armed:
            loop.rewatch(self.fd, armed, self._on_ready)
        else:
            loop.watch(self.fd, armed, self._on_ready)
        self._armed = armed

    def disarm(self, events: int) -> None:
        """Have the loop report these events no more."""
        events &= self._armed
        loop = self._task.loop
        if not events or loop is None:
            return
        self._armed ^= events
        if self._armed:
            loop.rewatch(self.fd, self._armed, self._on_ready)
        else:
            # Not even nothing, for errors are reported to those too who ask for no event.
            loop.unwatch(self.fd)

    def _on_ready(self, events: int) -> None:
        outbox = self.outbox
        if outbox is not None and events & self.write_on and outbox.is_waiting:
            outbox.on_ready()
        reader = self._reader
        if reader is not None and events & self.read_on:
            self._reader = None
            self.unread = FULL_RECEIVES
            self.credit = CREDIT
            reader.resume()
            return  # most likely it waits for the same again
        unwanted = events & ~self._wanted()
        if unwanted:
            self.disarm(unwanted)

    def _wanted(self) -> int:
        wanted = self.read_on if self._reader is not None else 0
        if self.outbox is not None and self.outbox.is_waiting:
            wanted |= self.write_on
        return wanted

    def leave_loop(self) -> None:
        """The loop ends, while the connection stays."""
        self.disarm(self._armed)

    def join_loop(self) -> None:
        """There is a loop again. For reading, begin() is called again too."""
        wanted = self._wanted()
        if wanted:
            self.arm(wanted)

    # -- moving bytes -----------------------------------------------------------------------------------------------------

    @waits
    def receive(self, size: int) -> Generator[Wait, None, bytes]:
        """Wait for bytes: at most `size`; none means that the client has ended its side."""
        while True:
            if not self.unread:
                yield self
            try:
                data: bytes = self.receive_now(size)
            except BlockingIOError:
                self.unread = 0
                continue
            self.unread = self.unread - 1 if len(data) == size else 0
            return data

    def put(self, data: bytes | memoryview) -> Steps[None]:
        """Send what the kernel takes, and keep the rest. Returns an awaitable for when all has gone."""
        outbox = self.outbox
        if outbox is not None and outbox.is_active:
            return outbox.put(data)
        try:
            sent = self.send_now(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            return self.need_outbox().put(memoryview(data)[sent:])
        self.credit -= 1
        return DONE if self.credit > 0 else self.give_way()

    def need_outbox(self) -> Outbox:
        """The outbox, which is made when it is needed for the first time."""
        if self.outbox is None:
            self.outbox = Outbox(self)
        return self.outbox

    @waits
    def writable(self) -> Generator[Wait, None, None]:
        """Wait until the kernel takes more, all that was kept included."""
        yield self.need_outbox()

    @waits
    def give_way(self) -> Generator[Wait, None, None]:
        """Let the others have their turn."""
        yield GIVE_WAY
        self.credit = CREDIT

    # -- the end ----------------------------------------------------------------------------------------------------------

    @waits
    def drain(self) -> Generator[Wait, None, None]:
        """Wait until what was kept is sent, unless the client did not take it in time before or has gone."""
        outbox = self.outbox
        if outbox is not None and outbox.pending and not outbox.is_stuck:
            try:
                yield outbox
            except OSError:
                pass  # a peer that has gone in the meantime is no error

    def close(self) -> None:
        """Let go of the socket, which the server closes."""
        if self.sock.fileno() == self.fd:
            self.disarm(self._armed)
        else:
            self._forget_number()
        self.receive_now = self.send_now = _refuse
        if self.outbox is not None:
            self.outbox.fail(
                ConnectionAbortedError(
                    errno.ECONNABORTED, f"the connection with {self._task.peer} was closed"
                )
            )

    def _forget_number(self) -> None:
        """The handler has closed the socket behind our back, and its number may be somebody else's by now."""
        loop, armed, self._armed = self._task.loop, self._armed, 0
        if armed and loop is not None:
            key = loop.selector.get_map().get(self.fd)
            if key is not None and key.data == self._on_ready:
                loop.unwatch(self.fd)


def _refuse(*args: Any) -> Any:
    raise ValueError("I/O operation on closed file")


class Outbox(Wait):
    """What was written and not sent yet; as a Wait: for it to become empty."""

    __slots__ = ("_channel", "_error", "_waiting", "is_stuck", "pending")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: list[Task] = []
        self._error: OSError | None = None
        self.pending: deque[memoryview] = deque()
        self.is_stuck = False  # whether the client took nothing for too long

    @property
    def is_active(self) -> bool:
        """Whether new data cannot be sent right away: older come first, or could not be sent at all."""
        return bool(self.pending) or self._error is not None

    @property
    def is_waiting(self) -> bool:
        """Whether anything hangs on the kernel's having room."""
        return bool(self.pending or self._waiting)

    def put(self, data: bytes | memoryview) -> Steps[None]:
        """Keep these bytes and send them as soon as possible. Raises what went wrong with earlier ones."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        if data:
            view = memoryview(data)
            # What may change must be copied; bytes never change.
            self.pending.append(view if isinstance(view.obj, bytes) else memoryview(bytes(view)))
        self._channel.arm(self._channel.write_on)
        return self._channel.writable()

    def begin(self, task: Task) -> None:
        self._channel.arm(self._channel.write_on)
        self._waiting.append(task)
        task.expect(task.limit)

    def forget(self, task: Task) -> None:
        self._waiting.remove(task)

    def expire(self, task: Task) -> None:
        self.is_stuck = True
        super().expire(task)

    def complaint(self, task: Task) -> str:
        size = sum(len(data) for data in self.pending)
        return (
            f"{self._channel._task.peer} has taken nothing for {task.limit} s; {size} bytes are left to send"
        )

    def on_ready(self) -> None:
        """There is room."""
        try:
            moved = self._send()
        except OSError as error:
            self.fail(error)
            return
        if not self.pending:
            self._channel.disarm(self._channel.write_on)
            self._wake(None)
            return
        self._channel.arm(self._channel.write_on)  # which sending may have changed, in TLS
        if moved:
            self.is_stuck = False
            for task in self._waiting:
                task.expect(task.limit)  # the limit is for a client that does not move

    def _send(self) -> bool:
        pending, send_now = self.pending, self._channel.send_now
        moved = False
        try:
            while pending:
                data = pending[0]
                sent = send_now(data)
                moved = moved or sent > 0
                if sent < len(data):
                    pending[0] = data[sent:]
                    break
                pending.popleft()
        except BlockingIOError:
            pass
        return moved

    def fail(self, error: OSError) -> None:
        """Give up: nothing more can be sent."""
        had_pending = bool(self.pending)
        self.pending.clear()
        self._channel.disarm(self._channel.write_on)
        if self._waiting:
            self._wake(error)
        elif had_pending:
            self._error = error  # for whoever writes next

    def _wake(self, error: OSError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            task.resume(error)
            error = error and type(error)(*error.args)  # each its own, for each grows a traceback


def make_channel(sock: Any, task: Task) -> Channel:
    """The channel for a connection: with TLS, if the socket speaks it."""
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        from ._selector_tls import TLSChannel

        return TLSChannel(sock, task)
    return Channel(sock, task)

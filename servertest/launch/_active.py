"""What a server has taken and not yet ended: who is connected, which thread works for whom, and how to end it.

How a server comes to its end without a hang and without a lie
--------------------------------------------------------------
When a server is stopped, some of its handlers are busy and some merely wait for their client to say more, perhaps for
ever: a client that keeps its connection open for later would delay the end of every test. So at the moment of stopping,
the reading side of each connection is shut down here, at the server's end (`SHUT_RD`). Nothing of this is sent to the client. A handler that
waits, or comes to read later, first gets everything that had arrived, and then end of file, as if the client had hung up
properly. A handler that is busy with something else goes on undisturbed and can still write its answer.

What such a handler raises because its input ended too early is our doing: it is written into the transcript as a note, and
is no error of the test. This pardon reaches only handlers that did run into our end of file while the client had not
closed its side. What is raised by others counts, as ever.

Whoever has not ended at the deadline is described (state, last bytes, stack), its connection is shut down in both
directions, and the test fails with that description.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from .._support import format_address, preview
from ..transcript import Recorder, Transcript
from ._errors import HandlerError
from ._wakeup import Latch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from .._support import Deadline
    from ..transcript import Conversation, Direction, Event, Side
    from ._host import Observer

__all__ = ("Activity", "ActivityBook", "last_bytes")

#: Seconds that a handler or a hook gets to end once it is forced. What follows is a failure in any case.
FORCED_GRACE = 0.2


class Activity:
    """One request between the moment it was accepted and the moment it was closed.

    Attributes:
        number: Number of the connection in the transcript, 0 if it is not recorded.
        peer: Address of the client.
        request: What the handler gets: a socket, or (bytes, socket) for a datagram.
        thread: The thread that handles it, None before one does.
        since: When it was accepted, on the monotonic clock.
        ended: Whether the handler has come back.
        elsewhere: Whether another process handles it, or is about to: a forked child, which sees to its input itself.
        cut: Whether its input was ended by us while the client could have sent more.
        saw_end: Whether the handler has read as far as that end.
        forced: Whether its connection was shut down because it took too long.
        error: The last exception reported for it, so that none is reported twice.
        waits: Tells where it waits, if it does that without a thread.
        in_thread: Whether a thread of its own sees it through, which may still raise what was reported.
    """

    __slots__ = (
        "closing",
        "cut",
        "elsewhere",
        "ended",
        "error",
        "forced",
        "in_thread",
        "number",
        "peer",
        "request",
        "saw_end",
        "since",
        "thread",
        "waits",
    )

    def __init__(self, number: int, peer: Any, request: Any) -> None:
        self.number = number
        self.peer = peer
        self.request = request
        self.thread: threading.Thread | None = None
        self.since = time.monotonic()
        self.ended = False
        self.closing = False
        self.elsewhere = False
        self.cut = False
        self.saw_end = False
        self.forced = False
        self.error: BaseException | None = None
        self.in_thread = False
        self.waits: Callable[[], str] | None = None

    def forget_error(self) -> None:
        """Let go of it once it cannot be reported again: its traceback holds the handler, and all that the handler holds."""
        self.error = None

    @property
    def connection(self) -> socket.socket | None:
        """The connection's own socket; None for a datagram, whose socket is everybody's."""
        return self.request if isinstance(self.request, socket.socket) else None

    @property
    def is_closed(self) -> bool:
        """Whether somebody has closed the connection."""
        sock = self.connection
        return sock is not None and sock.fileno() == -1

    def end_input(self) -> None:
        """Let whoever reads from the connection see end of file after what has arrived."""
        sock = self.connection
        if sock is None or self.cut or self.elsewhere:
            return
        # A signal handler that comes in here ends the input too, and then the client seems to have closed: what was found
        # out once is never taken back.
        if not _client_has_closed(sock):
            self.cut = True
        _shut(sock, socket.SHUT_RD)

    def force(self) -> None:
        """Shut the connection down under its handler."""
        self.forced = True
        if (sock := self.connection) is not None:
            _shut(sock, socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Close a connection of which nobody else knows any more."""
        if (sock := self.connection) is not None:
            sock.close()

    def describe(self) -> str:
        """One line: who, since when, in which state."""
        seconds = time.monotonic() - self.since
        if self.thread is None:
            state = "accepted, but no handler has begun"
        elif self.ended:
            state = "handled, but not closed"
        elif self.waits is not None:
            state = "in its handler, in the server's loop"
        else:
            state = f"in its handler, in thread {self.thread.name}"
        return f"{self.title}: {state}, {seconds:.1f} s after it was accepted"

    @property
    def title(self) -> str:
        """Who."""
        # In a server process the upper digits say which process has counted; see its recorder.
        number = f"connection {self.number & 0xFFFFFFFF} from " if self.number else "request from "
        return f"{number}{format_address(self.peer)}"


def last_bytes(conversation: Conversation) -> Iterator[str]:
    """How much went each way, and what was last, in lines to stand below the connection."""
    for name, data, total in (
        ("received", conversation.upstream, conversation.upstream_total),
        ("sent", conversation.downstream, conversation.downstream_total),
    ):
        shown = f", last {preview(data[-60:])}" if total else ""
        yield f"  {name} {total} bytes{shown}"


def _shut(sock: socket.socket, how: int) -> None:
    try:
        # Past whatever a subclass makes of it: an SSLSocket would drop its TLS state, a recording socket would record it.
        socket.socket.shutdown(sock, how)
    except OSError:
        pass  # closed, or the client was faster


def _client_has_closed(sock: socket.socket) -> bool:
    """Whether the client has already ended its side. Where the system cannot tell, it has not."""
    if not hasattr(select, "POLLRDHUP"):
        return False
    poll = select.poll()
    try:
        poll.register(sock.fileno(), select.POLLRDHUP)
    except ValueError:
        return True  # closed here already
    return bool(poll.poll(0))


class ActivityBook:
    """All activities of one server. No locks: a signal handler may come in anywhere.

    Each step is one operation on a dict or an attribute, and the order of two such steps does what a lock would do.
    """

    def __init__(self, observer: Observer | None) -> None:
        self.observer = observer
        recorder = None if observer is None else observer.transcript
        self.recorder = None if recorder is None else _Tap(self, recorder)
        self.stopping = False
        #: What left a handler and is no `Exception`: it ends a serving loop, and was reported already.
        self.fatal: BaseException | None = None
        self._open: dict[int, Activity] = {}
        self._idle = Latch()

    def __iter__(self) -> Iterator[Activity]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def open(self, key: int, activity: Activity) -> Activity:
        """Enter a request that was accepted."""
        self._open[key] = activity
        if self.stopping:
            # It slipped in between the stop and the loop's next look; stop() may have missed it.
            activity.end_input()
        return activity

    def get(self, key: int) -> Activity | None:
        """The activity of a request, as long as it is not closed."""
        return self._open.get(key)

    def close(self, key: int) -> Activity | None:
        """Strike out a request that was closed."""
        activity = self._open.pop(key, None)
        if activity is not None and not activity.in_thread:
            activity.forget_error()
        self._look_whether_idle()
        return activity

    def begin(self, activity: Activity) -> None:
        """Note that its handler begins, in this thread of this process."""
        activity.thread = threading.current_thread()
        activity.elsewhere = False
        if self.stopping:
            activity.end_input()

    def ended(self, activity: Activity) -> None:
        """Note that its handler has come back."""
        activity.ended = True
        self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if self.stopping and not self.unfinished():
            self._idle.open()

    def forget_closed(self) -> None:
        """Strike out what was closed without a word."""
        for key, activity in list(self._open.items()):
            if activity.is_closed:
                self._open.pop(key, None)

    def by_descriptor(self, number: int) -> Activity | None:
        """The activity whose connection has this descriptor."""
        for activity in self:
            sock = activity.connection
            if sock is not None and sock.fileno() == number:
                return activity
        return None

    def stop(self) -> None:
        """From now on every connection sees end of file; see the head of this file."""
        self.stopping = True
        for activity in self:
            activity.end_input()
        self._look_whether_idle()

    def drain(self, deadline: Deadline) -> list[str]:
        """Wait until all are closed; describe and force those that are not.

        Returns:
            A paragraph for each that had to be forced.
        """
        if self._settled(deadline):
            return []
        forced = [self.tell(activity) for activity in self.unfinished()]
        self.force()
        return forced

    def _settled(self, deadline: Deadline) -> bool:
        while self.unfinished():
            # A new one: the last may have been opened just before a request slipped in.
            latch = self._idle = Latch()
            self._look_whether_idle()
            if not latch.wait(deadline.remaining()):
                break
        return not self.unfinished()

    def left_behind(self) -> list[str]:
        """Those that have not even ended when they were forced: a sentence for each, as `drain` has described them."""
        if not self.unfinished() or self._idle.wait(FORCED_GRACE):
            return []
        fate = "could not be ended, and is left behind in a daemon thread"
        return [f"{activity.title}: {fate}" for activity in self.unfinished()]

    def remains(self) -> Iterator[threading.Thread | socket.socket]:
        """Threads and sockets of those that could not be ended."""
        for activity in self.unfinished():
            if activity.thread is not None:
                yield activity.thread
            if activity.connection is not None:
                yield activity.connection

    def lose(self, error: BaseException) -> None:
        """Report what has ended a serving loop, and end the connection that the loop had in its hands.

        The standard module's loop lets go of a request when a hook raises; nobody else knows of it.
        """
        activity = self._in_the_hands_of(error)
        place = _place_of(error)
        self.failed(activity, error, where=place or "serving loop")
        self.fatal = error
        if activity is not None:
            activity.abandon()
            self.forget_closed()

    def refused(self, activity: Activity, error: BaseException) -> None:
        """Report what `verify_request` has raised while it is known for whom: it ends the loop, which then knows no more."""
        if activity.thread is None and _place_of(error) == "verify_request":
            self.failed(activity, error)
            self.fatal = error

    def _in_the_hands_of(self, error: BaseException) -> Activity | None:
        """The request that the loop was at when it failed, unless a handler has begun with it."""
        for frame in _frames(error):
            if frame.f_code.co_name in _LOOP_STEPS:
                activity = self.get(id(frame.f_locals.get("request")))
                return None if activity is None or activity.in_thread else activity
        return None

    def force(self) -> None:
        """Shut down the connections of all that are left."""
        for activity in self:
            activity.force()
            if self.recorder is not None and activity.number:
                self.recorder.close(activity.number, "server", "forced")

    def unfinished(self) -> list[Activity]:
        """Those that somebody still works on: a handler that came back may have handed its connection on."""
        return [activity for activity in self if not (activity.ended or activity.is_closed)]

    def failed(
        self,
        activity: Activity | None,
        error: BaseException,
        *,
        where: str | None = None,
        connection: int = 0,
    ) -> None:
        """Report an exception once, unless we are to blame for it."""
        if activity is not None:
            if activity.error is error:
                return
            activity.error = error
            connection = activity.number
            if self._is_ours(activity):
                self.note(connection, f"the handler raised after the stop had ended its input: {error!r}")
                return
        if not isinstance(error, Exception):
            self.fatal = error
        if self.observer is not None:
            found = where or _place_of(error) or "handler"
            self.observer.failed(HandlerError.capture(error, where=found, connection=connection))

    def _is_ours(self, activity: Activity) -> bool:
        unaware = activity.saw_end or self.recorder is None or activity.thread is None
        return activity.forced or (activity.cut and unaware)

    def note(self, connection: int, text: str) -> None:
        """Write a remark into the transcript."""
        if self.recorder is not None and connection:
            self.recorder.note(connection, text)

    # -- recording

    def connected(self, client: Any, server: Any) -> int:
        """Record a connection, and return its number; 0 if nothing is recorded."""
        return 0 if self.recorder is None else self.recorder.connect(client, server)

    def observe(self, sock: socket.socket, number: int) -> socket.socket:
        """The same connection, recorded from now on; as it is if nothing is recorded."""
        if self.recorder is None:
            return sock
        from ..wire import observe

        return observe(sock, self.recorder, number)

    def observe_datagrams(self, sock: socket.socket) -> socket.socket:
        """The same datagram socket, recorded from now on; as it is if nothing is recorded."""
        if self.recorder is None:
            return sock
        from ..wire import observe_datagrams

        return observe_datagrams(sock, self.recorder)

    def number_of_peer(self, address: Any) -> int:
        """The number under which the datagrams of this peer are recorded; 0 if there are none."""
        return 0 if self.recorder is None else self.recorder.peers.get(address, 0)

    def reached_end(self, number: int) -> bool:
        """Whether the end of file that a handler has just read was made by the stop, and not by its client."""
        activity = next((one for one in self if one.number == number), None)
        if activity is None or not activity.cut:
            return False
        activity.saw_end = True
        return True

    def tell(self, activity: Activity) -> str:
        """A paragraph: the activity's line, its last bytes, and the stack of its thread."""
        conversation = None if self.recorder is None else self.recorder.conversation(activity.number)
        lines = [activity.describe(), *([] if conversation is None else last_bytes(conversation))]
        if activity.waits is not None:
            lines.append(activity.waits())
        elif activity.thread is not None and not activity.ended:
            lines.append(stack_of(activity.thread))
        return "\n".join(lines)

    def describe(self) -> str:
        """All of them, for a dump."""
        return "\n".join(self.tell(activity) for activity in self)


class _Tap(Recorder):
    """Passes on what sockets record, except what is not as it looks to them."""

    def __init__(self, book: ActivityBook, recorder: Recorder) -> None:
        super().__init__(recorder.started)
        self._book = book
        self._recorder = recorder
        self.peers: dict[Any, int] = {}
        # On the instance, before the method of the class: nothing comes between a socket and its recorder in what is used most.
        vars(self)["data"] = recorder.data

    def connect(self, client: Any, server: Any) -> int:
        """Record a connection."""
        return self._recorder.connect(client, server)

    def add(self, event: Event) -> None:
        """Record anything else."""
        self._recorder.add(event)

    def datagram(self, direction: Direction, data: bytes | bytearray | memoryview, address: Any) -> int:
        """Record a datagram, and remember its peer's number."""
        if not data and not address and self._book.stopping:
            return 0  # what a receiver gets whose socket is shut down
        number = self._recorder.datagram(direction, data, address)
        self.peers[address] = number
        return number

    def half_close(self, number: int, by: Side) -> None:
        """Record that one side has finished, unless it was the stop that ended the client's side."""
        if not (by == "client" and self._book.reached_end(number)):
            self._recorder.half_close(number, by)

    def conversation(self, number: int) -> Conversation | None:
        """What is known of a connection, if that is known in this process."""
        if not number or not isinstance(self._recorder, Transcript):
            return None
        return next((one for one in self._recorder.connections if one.number == number), None)


#: Methods of handlers and servers whose name in a traceback says best what failed.
_PLACES = (
    "handle_error",
    "setup",
    "handle",
    "finish",
    "get_request",
    "verify_request",
    "shutdown_request",
    "service_actions",
    "process_request",
)


#: Where a loop has a request in its hands.
_LOOP_STEPS = ("_handle_request_noblock", "_servertest_take", "_servertest_process")


def _place_of(error: BaseException) -> str | None:
    """In which method of the handler or server an exception arose, if it was in one."""
    names = {
        frame.f_code.co_name.lstrip("_") for frame in _frames(error)
    }  # ours have one before the same name
    return next((place for place in _PLACES if place in names), None)


def _frames(error: BaseException) -> Iterator[FrameType]:
    traceback = error.__traceback__
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next


def stack_of_ident(ident: int) -> str:
    """The same for a thread that `threading` does not know; "" if it has ended."""
    from ._dump import format_places, frames_by_thread, places_of

    return "\n".join(f"  {line}" for line in format_places(places_of(frames_by_thread().get(ident))))


def stack_of(thread: threading.Thread) -> str:
    """Where a thread is now, indented to stand below its connection."""
    from ._dump import describe_threads

    return "\n".join(f"  {line}" for line in describe_threads([thread]).splitlines())

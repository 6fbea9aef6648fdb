"""The book of activities, at the moments that no test can hit from outside."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from servertest import servers
from servertest._support import Deadline, HandlerFailed
from servertest.launch import _active, launch
from servertest.launch._active import Activity, ActivityBook
from servertest.launch._handshake import Handshake
from servertest.launch._instrument import Instrument
from servertest.launch._wakeup import Latch, Wakeup
from servertest.tls import shared_authority

from ._handlers import Upper


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        yield ours, theirs


def has_ended(sock: socket.socket) -> bool:
    sock.settimeout(0.01)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False


def test_a_request_that_is_accepted_while_the_server_stops_sees_end_of_file(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    book = ActivityBook(None)
    book.stop()
    book.open(1, Activity(0, "client", pair[0]))

    assert has_ended(pair[0])


def test_a_request_that_another_process_handles_is_left_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    book = ActivityBook(None)
    activity = Activity(0, "client", pair[0])
    activity.elsewhere = True
    book.open(1, activity)
    book.stop()
    assert not has_ended(pair[0])

    # In that other process, which has a copy of the book.
    book.begin(activity)
    assert has_ended(pair[0])
    assert activity.cut


def test_a_stop_that_interrupts_another_one_does_not_blame_the_client(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    book = ActivityBook(None)
    activity = book.open(1, Activity(0, "client", pair[0]))
    look = _active._client_has_closed

    def interrupted(sock: socket.socket) -> bool:
        monkeypatch.undo()
        book.stop()  # as a signal handler would
        return look(sock)

    monkeypatch.setattr(_active, "_client_has_closed", interrupted)
    book.stop()
    assert activity.cut


def test_the_parent_of_a_forking_server_knows_that_a_child_will_handle_it() -> None:
    book = ActivityBook(None)
    with servers.ForkingTCPServer(("127.0.0.1", 0), Upper) as server:
        instrument = Instrument(server, book)
        with socket.create_connection(server.server_address, timeout=5):
            request, _ = server.get_request()
            (activity,) = book
            assert activity.elsewhere
            server.close_request(request)
        instrument.remove()
    assert not list(book)


def test_a_stop_in_the_middle_of_a_handshake(pair: tuple[socket.socket, socket.socket]) -> None:
    book = ActivityBook(None)
    handshake = Handshake(shared_authority().server_credential(("127.0.0.1", 0)))

    class Slow:
        behaviour = "polite"

        def wrap(self, sock: socket.socket, context: object, **more: object) -> socket.socket:
            book.stop()
            return sock

    handshake._profile = Slow()  # type: ignore[assignment]
    activity = book.open(1, Activity(0, "client", pair[0]))
    book.begin(activity)
    assert handshake.secure(book, activity) is pair[0]
    handshake.cancelled.close()
    assert has_ended(pair[0])


def test_a_client_that_had_closed_before_the_stop_is_to_blame() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Fussy(servers.StreamRequestHandler):
        def handle(self) -> None:
            begun.set()
            go_on.wait(5)
            if not self.rfile.read(1):
                raise EOFError("the client left")

    with pytest.raises(HandlerFailed, match="the client left"):
        with launch(Fussy) as running:
            running.connect().close()
            begun.wait(5)
            threading.Timer(0.02, go_on.set).start()


def test_draining_ends_as_soon_as_the_last_one_has_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    book = ActivityBook(None)
    activity = book.open(1, Activity(0, "client", pair[0]))
    book.begin(activity)
    book.stop()
    threading.Timer(0.01, book.ended, args=(activity,)).start()

    assert book.drain(Deadline(5, "the handler")) == []
    assert book.left_behind() == []


def test_a_request_that_slips_in_after_the_stop_is_waited_for(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    book = ActivityBook(None)
    book.stop()
    activity = book.open(1, Activity(0, "client", pair[0]))
    book.begin(activity)
    threading.Timer(0.05, book.ended, args=(activity,)).start()

    assert book.drain(Deadline(5, "the handler")) == []
    assert activity.ended


def test_what_nobody_closes_is_forced_once_and_told(pair: tuple[socket.socket, socket.socket]) -> None:
    book = ActivityBook(None)
    activity = book.open(1, Activity(0, "client", pair[0]))
    book.begin(activity)
    book.stop()
    (told,) = book.drain(Deadline(0, "the handler"))
    assert told.startswith("request from client: in its handler, in thread MainThread")
    assert activity.forced
    (left,) = book.left_behind()
    assert "left behind" in left
    assert pair[1].recv(1) == b""


def test_errors_after_being_forced_are_ours() -> None:
    heard: list[Any] = []

    class Ear:
        transcript = None

        def decided(self, decision: object) -> None:
            raise AssertionError("there are no faults here")

        def failed(self, error: Any) -> None:
            heard.append(error)

    book = ActivityBook(Ear())
    activity = book.open(1, Activity(0, "client", None))
    activity.forced = True
    book.failed(activity, ValueError())
    assert heard == []
    book.failed(None, ValueError(), where="elsewhere")
    assert [error.where for error in heard] == ["elsewhere"]


def test_a_latch_is_opened_once_and_for_all() -> None:
    latch = Latch()
    assert not latch.wait(0)
    latch.open()
    latch.open()
    assert all(latch.wait(seconds) for seconds in (0, None, 1))


def test_a_wakeup_stays_readable_and_can_be_closed_twice() -> None:
    import select

    wakeup = Wakeup()
    poll = select.poll()
    poll.register(wakeup.fileno(), select.POLLIN)
    assert not poll.poll(0)
    wakeup.fire()
    assert poll.poll(0)
    assert poll.poll(0)
    wakeup.close()
    wakeup.close()
    wakeup.fire()
    assert wakeup.fileno() == -1


def test_a_wakeup_without_eventfd(monkeypatch: pytest.MonkeyPatch) -> None:
    import select

    monkeypatch.delattr("os.eventfd")
    wakeup = Wakeup()
    wakeup.fire()
    poll = select.poll()
    poll.register(wakeup.fileno(), select.POLLIN)
    assert poll.poll(0)
    wakeup.close()

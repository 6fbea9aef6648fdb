"""Errors at the server surface by themselves, whatever raised them, unless the test claims them."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
import traceback
from typing import Any

import pytest

from servertest import servers
from servertest._support import DeadlineExceeded, HandlerFailed, Mismatch, RemoteError, UsageError
from servertest.launch import Errors, HandlerError, Kind, kinds, launch, no_leaks

from ._handlers import Raising, Upper, echo

EVERYWHERE = [
    *kinds(transport="stream", family="inet", host="thread"),
    Kind(host="process"),
    Kind(concurrency="forking"),
]


def ask_for(running: Any, name: str) -> None:
    with running.connect() as client:
        client.send_all(name.encode() + b"\n")
        assert client.read_eof() == b""


# -- the end of the test


@pytest.mark.parametrize("kind", EVERYWHERE, ids=str)
def test_an_unclaimed_error_fails_the_test_with_traceback_and_transcript(kind: Kind) -> None:
    with pytest.raises(HandlerFailed) as caught:
        with launch(Raising, kind) as running:
            ask_for(running, "ValueError")
    text = str(caught.value)
    assert "ValueError: asked for ValueError (in handle, connection 1)" in text
    assert "Traceback (most recent call last):" in text
    assert 'raise getattr(__import__("builtins"), name)' in text
    assert "ValueError." in text.split("-->")[1]
    assert "server.expects_error(ValueError)" in text
    assert isinstance(caught.value, AssertionError)
    assert type(caught.value.__cause__) is ValueError


def test_the_error_is_raised_once() -> None:
    running = launch(Raising)
    ask_for(running, "ValueError")
    with pytest.raises(HandlerFailed):
        running.stop()
    running.stop()


def test_several_errors_are_all_shown() -> None:
    with pytest.raises(HandlerFailed) as caught:
        with launch(Raising) as running:
            ask_for(running, "ValueError")
            ask_for(running, "KeyError")
    text = str(caught.value)
    assert "2 errors" in text
    assert "[1] ValueError" in text
    assert "[2] KeyError" in text
    assert "#1 127.0.0.1" in text
    assert "#2 127.0.0.1" in text
    cause = caught.value.__cause__
    assert isinstance(cause, BaseExceptionGroup)
    assert [type(error) for error in cause.exceptions] == [ValueError, KeyError]


def test_of_an_endless_message_the_beginning_is_shown() -> None:
    class Verbose(servers.BaseRequestHandler):
        def handle(self) -> None:
            raise ValueError("x" * 1_000_000)

    with pytest.raises(HandlerFailed, match=r"xxx\.\.\. \([0-9,]+ more characters\)") as caught:
        with launch(Verbose) as running, running.connect() as client:
            client.read_eof()
    text = str(caught.value)
    assert "in handle" in text
    assert "Traceback" in text
    assert len(text) < 10_000


def test_without_a_transcript_the_error_is_shown_all_the_same() -> None:
    with pytest.raises(HandlerFailed, match="asked for ValueError"):
        with launch(Raising, transcript=False) as running:
            ask_for(running, "ValueError")


def test_what_the_block_raises_goes_first_and_carries_the_servers_error_as_a_note() -> None:
    with pytest.raises(LookupError) as caught:
        with launch(Raising) as running:
            ask_for(running, "ValueError")
            raise LookupError("in the test")
    (note,) = caught.value.__notes__
    assert note.startswith("HandlerFailed: an error at ThreadingTCPServer serving Raising")
    assert "asked for ValueError" in note


@pytest.mark.parametrize(
    "name", ["ConnectionResetError", "BrokenPipeError", "SystemExit", "KeyboardInterrupt"]
)
@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "ThreadPoolTCPServer"])
def test_no_exception_is_too_ordinary_or_too_grave_to_count(kind: str, name: str) -> None:
    with launch(Raising, kind) as running, running.expects_error(BaseException, match=name):
        ask_for(running, name)
    assert not running.errors


def test_an_exception_that_is_no_exception_ends_a_synchronous_server_and_is_told_once() -> None:
    with launch(Raising, "TCPServer") as running:
        ask_for(running, "SystemExit")
        error = running.errors.pop()
        assert error.is_a(SystemExit)
        assert (error.where, error.connection) == ("handle", 1)
    assert list(running.errors) == []


# -- where it arose


class InSetup(socketserver.StreamRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        raise RuntimeError("in setup")


class InFinish(socketserver.StreamRequestHandler):
    def finish(self) -> None:
        super().finish()
        raise RuntimeError("in finish")


@pytest.mark.parametrize(
    ("handler", "where"), [(InSetup, "setup"), (InFinish, "finish"), (Raising, "handle")]
)
def test_setup_handle_and_finish(handler: type[Any], where: str) -> None:
    with launch(handler) as running, running.connect() as client:
        client.send_all(b"RuntimeError\n")
        error = running.errors.pop()
        assert client.read_eof() == b""
    assert (error.where, error.type_name, error.connection) == (where, "RuntimeError", 1)


class Hooks(servers.TCPServer):
    """Raises in the method that the class attribute names."""

    failing = ""

    def _fail(self, name: str) -> None:
        if self.failing == name:
            type(self).failing = ""
            raise RuntimeError(f"in {name}")

    def get_request(self) -> Any:
        self._fail("get_request")
        return super().get_request()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self._fail("verify_request")
        return super().verify_request(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._fail("process_request")
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self._fail("shutdown_request")

    def service_actions(self) -> None:
        self._fail("service_actions")

    def server_close(self) -> None:
        super().server_close()
        self._fail("server_close")


class ThreadingHooks(Hooks, servers.ThreadingTCPServer):
    pass


@pytest.mark.parametrize("base", [Hooks, ThreadingHooks])
@pytest.mark.parametrize(
    "hook", ["get_request", "verify_request", "process_request", "shutdown_request", "service_actions"]
)
def test_hooks_of_the_server(base: type[Any], hook: str) -> None:
    server_class = type("HookedServer", (base,), {"failing": hook})
    with launch(server_class, Upper) as running:
        with running.expects_error(RuntimeError, match=f"in {hook}"):
            # A loop that dies before it accepts leaves the client with a reset.
            with contextlib.suppress(ConnectionResetError), running.connect() as client:
                client.half_close()
    assert not running.errors


class StandardUpper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line.upper())


@pytest.mark.parametrize(
    "base", [socketserver.TCPServer, socketserver.ThreadingTCPServer, servers.ThreadingTCPServer]
)
def test_a_request_whose_verification_fails_is_ended_and_told_of_once(base: type[Any]) -> None:
    class Distrustful(base):  # type: ignore[misc]
        def verify_request(self, request: Any, client_address: Any) -> bool:
            raise LookupError("no verification")

    began = time.monotonic()
    with no_leaks(), launch(Distrustful, StandardUpper) as running:
        with running.expects_error(LookupError) as expected, running.connect() as client:
            # Whether it has come before the connection is closed decides how that looks.
            client.send(b"x\n")
            with contextlib.suppress(ConnectionError):
                assert client.read_eof() == b""
        assert not running.errors
    assert time.monotonic() - began < 5
    assert expected.error is not None
    assert (expected.error.where, expected.error.connection) == ("verify_request", 1)


@pytest.mark.parametrize("failing", ["handle_error", "shutdown_request"])
def test_other_hooks_of_the_standard_module_that_lose_a_request(failing: str) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise LookupError(f"in {failing}")

    class Broken(StandardUpper):
        def handle(self) -> None:
            raise ValueError("in handle")

    cls = type("BrokenServer", (socketserver.TCPServer,), {failing: fail})
    with no_leaks(), launch(cls, Broken) as running:
        with running.expects_error(LookupError) as expected, running.expects_error(ValueError):
            with running.connect() as client:
                assert client.read_eof() == b""
        assert not running.errors
    assert expected.error is not None
    assert expected.error.where == failing


def test_server_close() -> None:
    server_class = type("HookedServer", (Hooks,), {"failing": "server_close"})
    with pytest.raises(HandlerFailed, match="in server_close"):
        with launch(server_class, Upper) as running:
            echo(running)


def test_an_own_shutdown_that_raises() -> None:
    class Broken(servers.TCPServer):
        def shutdown(self) -> None:
            super().shutdown()
            raise RuntimeError("in shutdown")

    with pytest.raises(HandlerFailed, match="in shutdown"):
        with launch(Broken, Upper) as running:
            echo(running)


@pytest.mark.parametrize("mixin", [(), (servers.ThreadingMixIn,), (servers.ThreadPoolMixIn,)])
def test_a_handle_error_that_raises(mixin: tuple[type[Any], ...]) -> None:
    class Broken(servers.TCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            raise LookupError("in handle_error")

    with launch(type("BrokenServer", (*mixin, Broken), {}), Raising) as running:
        with running.expects_error(ValueError), running.expects_error(LookupError, match="in handle_error"):
            ask_for(running, "ValueError")
    assert not running.errors


def test_a_handle_error_that_raises_the_error_again_tells_it_once() -> None:
    class Strict(servers.ThreadingMixIn, servers.TCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            raise

    with launch(Strict, Raising) as running:
        ask_for(running, "ValueError")
        running.errors.pop()
    assert not running.errors


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with launch(Upper) as running:
        with running.expects_error(RuntimeError, match="no thread"), monkeypatch.context() as patch:
            patch.setattr(
                "threading.Thread.start", lambda self: (_ for _ in ()).throw(RuntimeError("no thread"))
            )
            with running.connect() as client:
                assert client.read_eof() == b""
        echo(running)


def test_the_serving_loop_that_dies_refuses_clients() -> None:
    class Broken(servers.TCPServer):
        def service_actions(self) -> None:
            raise RuntimeError("loop")

    with launch(Broken, Upper) as running:
        with running.expects_error(RuntimeError) as expected:
            echo(running)
        assert expected.error is not None
        assert expected.error.where == "service_actions"
        host: Any = running._host
        host._thread.join(5)
        with pytest.raises(ConnectionRefusedError) as caught:
            running.connect()
    assert "its thread has ended" in "".join(caught.value.__notes__)


def test_a_server_does_not_print_what_it_reports(capfd: pytest.CaptureFixture[str]) -> None:
    with launch(Raising) as running, running.expects_error(ValueError):
        ask_for(running, "ValueError")
    assert capfd.readouterr() == ("", "")


# -- claiming


def test_an_expected_error_is_claimed() -> None:
    with launch(Raising) as running:
        with running.expects_error(ValueError, match=r"asked for \w+") as expected:
            ask_for(running, "ValueError")
        assert isinstance(expected.exception, ValueError)
        assert expected.error is not None
        assert expected.error.connection == 1


def test_an_expected_error_may_come_a_little_later() -> None:
    go_on = threading.Event()

    class Late(servers.StreamRequestHandler):
        def handle(self) -> None:
            go_on.wait(5)
            raise ValueError

    with launch(Late) as running:
        running.connect()
        with running.expects_error(ValueError):
            threading.Timer(0.02, go_on.set).start()


def test_an_error_that_does_not_come_is_a_mismatch() -> None:
    with launch(Raising) as running:
        with pytest.raises(Mismatch) as caught:
            with running.expects_error((ValueError, TypeError), match="x", timeout=0.01):
                ask_for(running, "ValueError")
        running.errors.clear()
    text = str(caught.value)
    assert "expected ValueError or TypeError with a message that matches 'x'" in text
    assert "ValueError: asked for ValueError (in handle, connection 1)" in text


@pytest.mark.parametrize("kind", EVERYWHERE, ids=str)
def test_another_error_ends_the_block_at_once(kind: Kind) -> None:
    with launch(Raising, kind) as running:
        began = time.monotonic()
        with pytest.raises(Mismatch, match="TypeError: asked for TypeError") as caught:
            with running.expects_error(ValueError, timeout=20):
                ask_for(running, "TypeError")
        assert time.monotonic() - began < 10
        assert "within" not in str(caught.value)
        assert running.errors.pop().is_a(TypeError)


def test_another_block_s_error_does_not() -> None:
    with launch(Raising) as running:
        with running.expects_error(TypeError), running.expects_error(ValueError):
            ask_for(running, "TypeError")
            ask_for(running, "ValueError")
    assert not running.errors


def test_an_error_of_before_does_not() -> None:
    with launch(Raising) as running:
        ask_for(running, "TypeError")
        with running.expects_error(ValueError):
            ask_for(running, "ValueError")
        assert running.errors.pop().is_a(TypeError)


@pytest.mark.parametrize("kind", EVERYWHERE, ids=str)
def test_a_claimed_error_stays_claimed_if_the_block_fails(kind: Kind) -> None:
    with pytest.raises(LookupError) as caught:
        with launch(Raising, kind) as running:
            with running.expects_error(ValueError):
                ask_for(running, "ValueError")
                raise LookupError("in the test")
    assert not hasattr(caught.value, "__notes__")


def test_one_that_comes_after_the_block_has_failed_is_claimed_too() -> None:
    go_on = threading.Event()

    class Late(servers.StreamRequestHandler):
        def handle(self) -> None:
            go_on.wait(10)
            raise ValueError("late")

    with launch(Late) as running, running.connect() as client:
        with pytest.raises(LookupError), running.expects_error(ValueError):
            raise LookupError("in the test")
        go_on.set()
        client.read_eof()
        assert not running.errors


@pytest.mark.parametrize("types", ["ValueError", 5, (ValueError, int)])
def test_what_is_no_class_of_exceptions(types: Any) -> None:
    with launch(Upper) as running, pytest.raises(UsageError, match="takes a class of exceptions"):
        running.expects_error(types)


def test_what_python_prints_has_the_traceback_once() -> None:
    with pytest.raises(HandlerFailed) as caught:
        with launch(Raising) as running:
            ask_for(running, "ValueError")
    printed = "".join(traceback.format_exception(caught.value))
    assert printed.count("raise getattr(") == 1
    assert printed.startswith("ValueError: asked for ValueError\n\nThe above exception was the direct cause")


def test_the_same_stack_is_shown_once() -> None:
    with pytest.raises(HandlerFailed) as caught:
        with launch(Raising) as running:
            for name in ("ValueError", "TypeError", "ValueError"):
                ask_for(running, name)
    text = str(caught.value)
    assert text.count("Traceback (most recent call last)") == 1
    assert text.count("(the same stack as in [1])") == 2
    assert "[2] TypeError: asked for TypeError" in text


@pytest.mark.parametrize("kind", ["ThreadingTCPServer+process", "ForkingTCPServer"])
def test_a_server_in_another_process_has_told_what_came_before_its_reply(kind: str) -> None:
    with launch(Upper, kind) as running, running.connect() as client:
        for number in range(50):
            client.send_all(b"%d\n" % number)
            client.readline()
            transcript = running.transcript
            assert transcript is not None
            assert transcript.connections[0].upstream.endswith(b"%d\n" % number)


def test_no_error_at_all_is_a_mismatch() -> None:
    with launch(Upper) as running, pytest.raises(Mismatch, match="no error came at all"):
        with running.expects_error(timeout=0.01):
            pass


def test_an_unclaimed_error_from_before_the_block_counts() -> None:
    with launch(Raising) as running:
        ask_for(running, "ValueError")
        with running.expects_error(ValueError, timeout=0.01):
            pass


def test_what_the_block_itself_raises_is_not_waited_for() -> None:
    with launch(Upper) as running, pytest.raises(LookupError):
        with running.expects_error(ValueError, timeout=60):
            raise LookupError


def test_pop_claims_one_and_waits_for_it() -> None:
    with launch(Raising) as running:
        threading.Timer(0.02, ask_for, args=(running, "KeyError")).start()
        assert running.errors.pop().is_a(KeyError)
        ask_for(running, "ValueError")
        ask_for(running, "TypeError")
        assert [error.type_name for error in running.errors] == ["ValueError", "TypeError"]
        assert running.errors.pop(0).is_a(ValueError)
        assert running.errors.pop().is_a(TypeError)
        with pytest.raises(DeadlineExceeded, match="an error at the server"):
            running.errors.pop(timeout=0.01)


# -- the values


def captured(error: Exception, **more: Any) -> HandlerError:
    return HandlerError.capture(error, **more)


def test_an_error_reads_like_a_sentence() -> None:
    assert str(captured(ValueError("bad"), where="handle", connection=3)) == (
        "ValueError: bad (in handle, connection 3)"
    )
    assert str(captured(ValueError(), where="serving loop")) == "ValueError (in serving loop)"


def test_a_stand_in_from_another_process_is_told_by_its_name() -> None:
    error = HandlerError("socket.gaierror", "no", RemoteError("socket.gaierror", "no"), "", 0, "handle")

    assert error.is_a(socket.gaierror)
    assert error.is_a(RemoteError)
    assert not error.is_a(ValueError)


def test_errors_are_a_sequence() -> None:
    errors = Errors()
    first, second = captured(ValueError("a")), captured(ValueError("b"))
    errors.add(first)
    errors.add(second)

    assert len(errors) == 2
    assert list(errors) == [first, second]
    assert errors[0] is first
    assert errors[-1:] == [second]
    assert first in errors
    assert repr(errors) == "<Errors: ValueError: a (in handler); ValueError: b (in handler)>"
    assert errors.clear() == [first, second]
    assert repr(errors) == "<Errors: none>"

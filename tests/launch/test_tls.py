"""TLS in one keyword: clients trust it, every profile does what it says, and no handshake holds up anybody."""

from __future__ import annotations

import http.server
import socket
import ssl
import time
from typing import Any

import pytest

from servertest import servers
from servertest._support import DeadlineExceeded, PeerReset, UsageError
from servertest.launch import FunctionTarget, WsgiTarget, kinds, launch
from servertest.tls import Profile, profiles, shared_authority

from ._handlers import Upper, echo

STREAMS = kinds(transport="stream", family="inet", tls=True, host="thread")


@pytest.fixture(scope="module", autouse=True)
def certificates() -> None:
    """Made once, so that no test is slow because it is the first."""
    shared_authority().server_credential(("127.0.0.1", 0))
    shared_authority().client_credential("mutual")


@pytest.mark.parametrize("tls", [True, "mutual", "good"])
def test_connect_trusts_the_server_and_presents_what_it_wants(tls: Any) -> None:
    with launch(Upper, tls=tls) as running:
        with running.connect() as client:
            assert client.tls is not None
            client.send_all(b"hi\n")
            assert client.readline() == b"HI\n"


def test_without_a_certificate_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise ImportError("no trustme")

    monkeypatch.setattr("servertest.tls.shared_authority", refuse)
    with pytest.raises(ImportError) as caught:
        launch(Upper, tls=True)
    held = [value for entry in caught.traceback for value in entry.frame.f_locals.values()]
    listeners = [value for value in held if isinstance(value, socket.socket)]
    assert listeners
    assert all(listener.fileno() == -1 for listener in listeners)


def test_the_transcript_has_plain_text() -> None:
    with launch(Upper, tls=True) as running:
        echo(running)
    assert running.transcript is not None
    (conversation,) = running.transcript.connections
    assert (conversation.upstream, conversation.downstream) == (b"hi\n", b"HI\n")
    assert conversation.close_kind == "fin"


def test_the_handler_gets_a_tls_socket() -> None:
    class Version(servers.StreamRequestHandler):
        def handle(self) -> None:
            assert isinstance(self.request, ssl.SSLSocket)
            self.wfile.write(str(self.request.version()).encode())

    with launch(Version, tls=True) as running, running.connect() as client:
        assert client.read_eof() == b"TLSv1.3"


def test_the_client_sees_the_end_in_good_order() -> None:
    with launch(Upper, tls=True) as running, running.connect() as client:
        client.send_all(b"hi\n")
        client.half_close()
        assert client.read_eof() == b"HI\n"
        assert not client.ragged_eof


def test_a_context_for_clients_of_others() -> None:
    with launch(Upper, tls=True) as running:
        with socket.create_connection((running.host, running.port), timeout=5) as plain:
            with running.client_context().wrap_socket(plain, server_hostname=running.host) as client:
                client.sendall(b"hi\n")
                assert client.recv(10) == b"HI\n"


def test_a_context_for_a_plain_server() -> None:
    with launch(Upper) as running, pytest.raises(UsageError, match="put it up with tls=True"):
        running.client_context()


def test_a_plain_client_of_a_tls_server() -> None:
    with launch(Upper, tls=True) as running, running.expects_error(ssl.SSLError):
        with running.connect(tls=None) as client:
            client.send_all(b"GET / HTTP/1.0\r\n\r\n")
            client.read_eof()


@pytest.mark.parametrize("profile", profiles(), ids=str)
def test_every_profile_is_noticed_by_the_client_and_is_no_error_of_the_server(profile: Profile) -> None:
    with launch(Upper, tls=profile) as running:
        assert str(running.kind) == f"ThreadingTCPServer+tls:{profile}"
        try:
            with running.connect(timeout=0.1 if profile.behaviour == "stall" else 5) as client:
                client.send_all(b"hi\n")
                assert client.readline() == b"HI\n"
        except (ssl.SSLError, DeadlineExceeded, PeerReset):
            assert profile.culprit is not None
        else:
            assert profile.culprit is None or profile.behaviour == "ragged"
    assert not running.errors


@pytest.mark.parametrize("kind", STREAMS, ids=str)
def test_a_handshake_that_never_comes_does_not_delay_the_stop(kind: Any) -> None:
    with launch(Upper, kind) as running, socket.create_connection((running.host, running.port), timeout=5):
        assert running.transcript is not None
        running.transcript.wait_for(connections=1)
        began = time.monotonic()
        running.stop()
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("kind", [kind for kind in STREAMS if kind.concurrency != "sync"], ids=str)
def test_a_silent_client_holds_up_nobody(kind: Any) -> None:
    running = launch(Upper, kind)
    with socket.create_connection((running.host, running.port), timeout=5):
        echo(running)
        running.stop()


@pytest.mark.parametrize("cls", [http.server.HTTPServer, http.server.ThreadingHTTPServer])
def test_a_server_class_that_knows_nothing_of_tls(cls: type[Any]) -> None:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with launch(cls, Quiet, tls=True) as running, running.connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert client.readline().startswith(b"HTTP/1.0 204")


def test_a_function() -> None:
    def serve(listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(connection.recv(100).upper())

    with launch(FunctionTarget(serve), tls=True) as running:
        for _ in range(2):
            with running.connect() as client:
                client.send_all(b"hi")
                assert client.read_eof() == b"HI"
        # One whose handshake fails is not given to the function, which goes on with the next.
        with running.expects_error(ssl.SSLError), running.connect(tls=None) as client:
            client.send_all(b"nonsense\r\n\r\n")
            client.read_eof()
        with running.connect() as client:
            client.send_all(b"hi")
            assert client.read_eof() == b"HI"


def test_a_wsgi_application_knows_that_it_is_https() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.url_scheme"].encode()]

    with launch(WsgiTarget(application), tls=True) as running, running.connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_eof().endswith(b"\r\n\r\nhttps")


@pytest.mark.parametrize(
    "kind", ["ForkingTCPServer+tls", "PreForkTCPServer+tls:mutual", "TCPServer+tls+process"]
)
def test_in_a_process(kind: str) -> None:
    with launch(Upper, kind) as running:
        echo(running)
    assert running.transcript is not None
    assert running.transcript.connections[0].upstream == b"hi\n"

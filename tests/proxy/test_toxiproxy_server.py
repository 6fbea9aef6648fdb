"""The API's server: who may ask, how much, malformed requests, and its end."""

from __future__ import annotations

import http.client
import json
import socket
import string
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from servertest._support import AddressInUse, UsageError, have_ipv6
from servertest.faults import registry
from servertest.proxy.toxiproxy import ApiServer, Collection
from servertest.proxy.toxiproxy._routes import answer
from tests.proxy._asking import Api, read
from tests.proxy.conftest import LIMIT


@pytest.fixture
def server(stack: ExitStack) -> ApiServer:
    return stack.enter_context(ApiServer(port=0))


@pytest.fixture
def api(server: ApiServer) -> Api:
    return Api(server)


def raw(server: ApiServer, request: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=LIMIT) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        answered = b""
        while data := sock.recv(1 << 16):
            answered += data
        return answered


# -- who may ask


def test_browsers_are_refused(api: Api) -> None:
    reply = api("GET", "/proxies", **{"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"})
    assert (reply.status, reply.error) == (403, "User agent not allowed")
    assert api("POST", "/reset", Origin="http://localhost:3000").status == 403
    assert api("GET", "/proxies", **{"User-Agent": "python-requests/2"}).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8474", 200),
        ("localhost", 200),
        ("LOCALHOST:80", 200),
        ("localhost.", 200),
        ("127.1.2.3:1", 200),
        ("[::1]:8474", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
        ("0.0.0.0", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_who_was_led_here_under_another_name_is_refused(api: Api, host: str, status: int) -> None:
    assert api("GET", "/version", Host=host).status == status


def test_only_this_machine_is_served_unless_asked_otherwise() -> None:
    with pytest.raises(UsageError, match="could be reached from other machines"):
        ApiServer(host="0.0.0.0", port=0)
    with pytest.raises(UsageError, match="the API's port is from 0 to 65535, not 70000"):
        ApiServer(host="127.0.0.1", port=70_000)


@pytest.mark.skipif(not have_ipv6(), reason="there is no IPv6 here")
def test_it_may_listen_on_the_other_loopback_address() -> None:
    with ApiServer(host="::1", port=0) as server:
        assert server.url == f"http://[::1]:{server.address[1]}"
        assert Api(server)("GET", "/version").status == 200


def test_an_address_that_is_taken_is_told(server: ApiServer) -> None:
    with pytest.raises(AddressInUse, match="the API cannot listen on"):
        ApiServer(port=server.address[1])


# -- how much


def test_a_body_may_be_large_but_not_too_large(api: Api) -> None:
    largest = b" " * ((1 << 20) - 2) + b"[]"
    assert api("POST", "/populate", largest).status == 201
    assert api("POST", "/populate", largest + b" ").status == 413


def test_a_length_that_lies_is_not_waited_for(server: ApiServer) -> None:
    begun = time.monotonic()
    head = b"POST /populate HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    assert b" 413 " in raw(server, head + b"9" * 50 + b"\r\n\r\n")
    assert b" 400 " in raw(server, head + b"-1\r\n\r\n")
    assert raw(server, head + b"5\r\n\r\n[]") == b""
    assert time.monotonic() - begun < LIMIT


def test_bodies_in_chunks(server: ApiServer) -> None:
    head = b"POST /populate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 201 " in raw(server, head + b"1\r\n[\r\n1;x=y\r\n]\r\n0\r\nTrailer: x\r\n\r\n")
    assert b" 400 " in raw(server, head + b"x\r\n")
    assert b" 400 " in raw(server, head)
    assert b" 413 " in raw(server, head + b"200000\r\n")
    assert b" 413 " in raw(server, head + b"-5\r\n")
    other = head.replace(b"chunked", b"gzip")
    assert b" 501 " in raw(server, other)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /version HTTP/1.0\r\n\r\n", 200),
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 501),
        (b"GET /proxies/%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"HEAD /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405),
    ],
)
def test_requests_that_are_none(server: ApiServer, request_: bytes, status: int) -> None:
    answered = raw(server, request_)
    assert f" {status} ".encode() in answered.partition(b"\r\n")[0], answered[:200]
    assert server.errors == []


def test_many_requests_on_one_connection(server: ApiServer) -> None:
    client = http.client.HTTPConnection(*server.address, timeout=LIMIT)
    for method, path, body, status in [
        ("POST", "/proxies", b"{}", 400),
        ("GET", "/nothing", b"", 404),
        ("POST", "/reset", b"{}", 204),
        ("GET", "/version", b"", 200),
        ("PUT", "/version", b"left unread", 405),
        ("GET", "/proxies", b"", 200),
    ]:
        client.request(method, path, body)
        assert read(client).status == status
    client.close()


def test_a_breakage_of_ours_is_told_to_both_sides(
    api: Api, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Collection) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(Collection, "reset", broken)
    reply = api("POST", "/reset")
    assert (reply.status, reply.error) == (500, "ZeroDivisionError: inside")
    assert [type(error) for error in server.errors] == [ZeroDivisionError]


# -- whatever JSON says

NAMES = st.sampled_from(
    [
        "name",
        "listen",
        "upstream",
        "enabled",
        "toxics",
        "seed",
        "transport",
        "type",
        "stream",
        "toxicity",
        "attributes",
        "triggers",
        "latency",
        "jitter",
        "rate",
        "text",
        "tls",
        "max_peers",
        "connection",
        "pattern",
        "regex",
        "hex",
        "between",
        "from",
        "to",
        "duration",
        "after_bytes",
        "data",
    ]
) | st.text(string.ascii_letters, max_size=5)
TEXTS = st.sampled_from(
    [
        *[
            "a",
            "127.0.0.1:1",
            ":0",
            "localhost:0",
            "@x",
            "stream",
            "datagram",
            "upstream",
            "both",
            "3g",
            "(",
            "faults",
            "latency:1|slicer",
            "expired",
        ],
        *registry,
    ]
) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
PROXY = st.fixed_dictionaries(
    {"name": st.just("x"), "upstream": st.just("127.0.0.1:1")},
    optional={
        "listen": st.just("127.0.0.1:0") | VALUES,
        "transport": st.sampled_from(["stream", "datagram"]) | VALUES,
        "seed": VALUES,
        "toxics": VALUES,
        "connect_timeout": VALUES,
        "idle_timeout": VALUES,
        "max_peers": VALUES,
    },
)
TOXIC = st.fixed_dictionaries(
    {"type": st.sampled_from(["latency", "bandwidth", "slicer", "timeout", "faults", *registry])},
    optional={
        "attributes": st.dictionaries(NAMES, VALUES, max_size=3),
        "triggers": st.dictionaries(
            st.sampled_from(["connection", "every", "first", "probability", "pattern", "between"]),
            VALUES,
            max_size=3,
        ),
        "toxicity": VALUES,
        "stream": VALUES,
        "name": VALUES,
    },
)
TARGETS = st.sampled_from(
    [
        ("POST", "/proxies"),
        ("POST", "/populate"),
        ("POST", "/proxies/p"),
        ("PATCH", "/proxies/p"),
        ("POST", "/proxies/p/toxics"),
        ("PATCH", "/proxies/p/toxics/t"),
    ]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(target=TARGETS, body=PROXY | TOXIC | st.lists(PROXY, max_size=3) | VALUES)
@example(("POST", "/proxies/p/toxics"), {"type": "latency", "attributes": {"latency": 10**400}})
@example(("POST", "/proxies/p/toxics"), {"type": "latency", "attributes": {"latency": 9e18}})
@example(("POST", "/proxies"), {"name": "\ud800", "upstream": "127.0.0.1:1"})
@example(("POST", "/proxies"), {"name": "x", "upstream": "/\ud800"})
@example(("POST", "/proxies"), {"name": "x", "upstream": "/\0"})
@example(("POST", "/proxies"), {"name": "x", "upstream": "127.0.0.1:1", "listen": "a" * 300 + ":1"})
def test_no_body_breaks_it(target: tuple[str, str], body: Any) -> None:
    broken(target, json.dumps(body).encode("utf-8", "surrogatepass"))


@settings(max_examples=100, deadline=None)
@given(target=TARGETS, body=st.binary(max_size=40))
@example(("POST", "/proxies"), b"[" * 100_000)
@example(("POST", "/proxies"), b'{"name":1e999}')
@example(("POST", "/proxies"), b'{"name":' + b"9" * 10_000 + b"}")
@example(("POST", "/proxies"), b'{"name":NaN}')
@example(("POST", "/proxies"), b"\xff\xfe{")
@example(("POST", "/proxies"), b'"\\ud800"')
def test_no_bytes_break_it(target: tuple[str, str], body: bytes) -> None:
    broken(target, body)


def broken(target: tuple[str, str], body: bytes) -> None:
    with Collection(seed=1) as collection:
        collection.create(
            {"name": "p", "upstream": "127.0.0.1:1", "toxics": [{"type": "latency", "name": "t"}]}
        )
        made = answer(collection, *target, body)
        assert made.status in (200, 201, 400, 409), made
        shown = json.loads(made.body)
        if made.status >= 400:
            assert shown["status"] == made.status
            assert shown["error"]
        for path in ("/proxies", "/metrics"):
            assert answer(collection, "GET", path, b"").status == 200
        # Whatever was accepted is at work, and the thread that carries it lives.
        for proxy in collection:
            assert proxy.link is None or proxy.link.relay.running
        assert answer(collection, "POST", "/reset", b"").status == 204


# -- its end


def test_a_stop_does_not_wait_for_clients_that_ask_nothing() -> None:
    with ApiServer(port=0) as server, ExitStack() as stack:
        silent = stack.enter_context(socket.create_connection(server.address, timeout=LIMIT))
        slow = stack.enter_context(socket.create_connection(server.address, timeout=LIMIT))
        slow.sendall(b"POST /populate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n[")
        idle = http.client.HTTPConnection(*server.address, timeout=LIMIT)
        stack.callback(idle.close)
        idle.request("GET", "/version")
        assert read(idle).status == 200
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < 1
        assert silent.recv(9) == slow.recv(9) == idle.sock.recv(9) == b""
        server.stop()


def test_a_request_that_is_under_way_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    reset = Collection.reset

    def slow(self: Collection) -> None:
        begun.set()
        go_on.wait(LIMIT)
        reset(self)

    monkeypatch.setattr(Collection, "reset", slow)
    server = ApiServer(port=0)
    api = Api(server)
    statuses: list[int] = []
    asking = threading.Thread(target=lambda: statuses.append(api("POST", "/reset").status))
    asking.start()
    assert begun.wait(LIMIT)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    go_on.set()
    for thread in (asking, stopping):
        thread.join(LIMIT)
    assert statuses == [204]


def test_a_stopped_collection_takes_no_more() -> None:
    collection = Collection()
    with ApiServer(collection, port=0) as server:
        api = Api(server)
        collection.stop()
        assert api("GET", "/proxies").status == 200
        reply = api("POST", "/proxies", {"name": "a", "upstream": "127.0.0.1:1"})
        assert (reply.status, reply.error) == (503, "the proxies were stopped")


def test_its_own_proxies_end_with_it_and_leave_their_addresses() -> None:
    with ApiServer(port=0) as server:
        made = Api(server)("POST", "/proxies", {"name": "a", "upstream": "127.0.0.1:1"}).body
    host, _, port = made["listen"].rpartition(":")
    with socket.create_server((host, int(port))):
        pass

"""Toxics: what each does to the bytes, on which connections, and what changes them while connections live."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest

from servertest import clients, servers
from servertest._support import PeerReset
from servertest.faults import registry
from servertest.launch import Running, launch
from servertest.proxy.toxiproxy import ApiServer, Collection
from tests.proxy._asking import Api
from tests.proxy.conftest import LIMIT


class Echo(servers.BaseRequestHandler):
    """Sends back what comes, and "end" once nothing more comes."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(1 << 16):
                self.request.sendall(data)
            self.request.sendall(b"end")
        except OSError:
            pass


@pytest.fixture
def echo(stack: ExitStack) -> Running:
    return stack.enter_context(launch(Echo, transcript=False))


@pytest.fixture
def api(stack: ExitStack) -> Api:
    collection = stack.enter_context(Collection(seed=7))
    return Api(stack.enter_context(ApiServer(collection, port=0)))


@pytest.fixture
def port(api: Api, echo: Running) -> int:
    return made(api, echo, "a")


def made(api: Api, echo: Running, name: str, **fields: Any) -> int:
    body = {"name": name, "upstream": f"{echo.host}:{echo.port}", **fields}
    listen: str = api("POST", "/proxies", body).body["listen"]
    return int(listen.rpartition(":")[2])


def to(port: int) -> clients.StreamClient:
    return clients.StreamClient.connect(("127.0.0.1", port), timeout=LIMIT)


def add(api: Api, kind: str, attributes: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    reply = api("POST", "/proxies/a/toxics", {"type": kind, "attributes": attributes or {}, **fields})
    assert reply.status == 200, reply.body
    body: dict[str, Any] = reply.body
    return body


# -- as Toxiproxy shows them


@pytest.mark.parametrize(
    ("kind", "given", "shown"),
    [
        ("latency", {"latency": 5}, {"latency": 5, "jitter": 0}),
        ("latency", {"latency": 1.5, "jitter": 2.0}, {"latency": 1.5, "jitter": 2}),
        ("bandwidth", {"rate": 10}, {"rate": 10}),
        ("bandwidth", {}, {"rate": 0}),
        ("slow_close", {"delay": 5}, {"delay": 5}),
        ("timeout", {"timeout": 5}, {"timeout": 5}),
        ("timeout", {}, {"timeout": 0}),
        ("reset_peer", {"timeout": 5}, {"timeout": 5}),
        ("slicer", {"average_size": 3}, {"average_size": 3, "size_variation": 0, "delay": 0}),
        ("limit_data", {"bytes": 9}, {"bytes": 9}),
        # beyond it
        ("latency", {"distribution": "normal"}, {"latency": 0, "jitter": 0, "distribution": "normal"}),
        ("reset_peer", {"after_bytes": 3}, {"timeout": 0, "after_bytes": 3}),
        ("stall", {"duration": None, "after": 0.5}, {"duration": None, "after": 0.5}),
        ("insert_bytes", {"data": {"hex": "00ff"}}, {"data": {"hex": "00ff"}}),
        ("faults", {"text": "3g|slicer:3"}, {"text": "3g|slicer:3"}),
        ("stall", {"duration": 2.0}, {"duration": 2.0}),
        ("insert_bytes", {"data": "text"}, {"data": "text"}),
    ],
)
def test_attributes_are_shown_as_they_are(
    api: Api, port: int, kind: str, given: dict[str, Any], shown: dict[str, Any]
) -> None:
    stream = "both" if kind == "faults" else "downstream"
    body = {"attributes": shown, "name": f"{kind}_{stream}", "type": kind, "stream": stream, "toxicity": 1}
    assert add(api, kind, given) == body
    assert api("GET", f"/proxies/a/toxics/{kind}_{stream}").body == body
    assert api("GET", "/proxies/a/toxics").body == [body]
    assert api("GET", "/proxies/a").body["toxics"] == [body]
    deleted = api("DELETE", f"/proxies/a/toxics/{kind}_{stream}")
    assert (deleted.status, deleted.body) == (204, None)
    assert api("GET", "/proxies/a/toxics").body == []


def test_those_of_what_clients_send_are_listed_first(api: Api, port: int) -> None:
    add(api, "latency")
    add(api, "slicer", {"average_size": 1}, stream="upstream")
    add(api, "latency", stream="upstream", name="late")
    names = [toxic["name"] for toxic in api("GET", "/proxies/a/toxics").body]
    assert names == ["slicer_upstream", "late", "latency_downstream"]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "bad request body: EOF"),
        ([], 400, "bad request body: the body is an object, not []"),
        ({}, 400, "invalid toxic type"),
        ({"type": "latencyy"}, 400, "invalid toxic type"),
        ({"type": "latency", "stream": "sideways"}, 400, "stream was invalid, can be either upstream or"),
        ({"type": "latency", "name": "taken"}, 409, "toxic already exists"),
        (
            {"type": "latency", "toxicity": 2},
            400,
            "bad request body: toxicity is a number from 0 to 1, not 2",
        ),
        ({"type": "latency", "toxicity": "all"}, 400, "bad request body: toxicity is a number from 0 to 1"),
        (
            {"type": "latency", "attributes": 5},
            400,
            "bad request body: the attributes of latency is an object",
        ),
        (
            {"type": "latency", "attributes": {"latencyy": 5}},
            400,
            'bad request body: unknown field "latencyy" in the attributes of latency; did you mean latency?',
        ),
        ({"type": "latency", "latency": 5}, 400, 'bad request body: unknown field "latency" in the body'),
        (
            {"type": "latency", "attributes": {"latency": "5ms"}},
            400,
            'bad request body: the attributes of latency: latency is a number of milliseconds from 0 up, not "5ms"',
        ),
        (
            {"type": "latency", "attributes": {"jitter": -1}},
            400,
            "bad request body: the attributes of latency: jitter is a number of milliseconds from 0 up, not -1",
        ),
        (
            {"type": "latency", "attributes": {"latency": True}},
            400,
            "bad request body: the attributes of latency: latency is a number",
        ),
        (
            {"type": "latency", "attributes": {"distribution": "flat"}},
            400,
            "bad request body: Latency: distribution is one of 'uniform'",
        ),
        (
            {"type": "slicer"},
            400,
            "bad request body: the attributes of slicer: average_size is a number of bytes",
        ),
        (
            {"type": "slicer", "attributes": {"average_size": 2, "size_variation": 2}},
            400,
            "bad request body: Slicer: size_variation is less than average_size, 2, not 2",
        ),
        ({"type": "packet_loss"}, 400, "bad request body: packet_loss: Loss is not for a stream: TCP would"),
        ({"type": "loss"}, 400, "bad request body: loss: Loss is not for a stream: TCP would"),
        ({"type": "short_reads"}, 400, "bad request body: short_reads: ShortReads cannot be done here: "),
        ({"type": "stall", "attributes": {"duratoin": 1}}, 400, 'bad request body: unknown field "duratoin"'),
        ({"type": "stall", "attributes": {"after": None}}, 200, ""),
        (
            {"type": "insert_bytes", "attributes": {"data": {"hex": "0"}}},
            400,
            "bad request body: the attributes of insert_bytes: data is a text, or bytes as",
        ),
        ({"type": "faults"}, 400, "bad request body: the attributes of faults: text is the text of faults"),
        (
            {"type": "faults", "attributes": {"text": "latenc"}},
            400,
            "bad request body: faults, at character 1",
        ),
        (
            {"type": "faults", "attributes": {"text": "upstream(slicer)"}, "stream": "downstream"},
            400,
            "bad request body: Slicer() is aimed upstream already",
        ),
        (
            {"type": "latency", "triggers": {"evry": 2}},
            400,
            'bad request body: unknown field "evry" in triggers',
        ),
        ({"type": "latency", "triggers": {"every": 0}}, 400, "bad request body: triggers: every is a whole"),
        (
            {"type": "latency", "triggers": {"connection": {"from": 5, "to": 1}}},
            400,
            "bad request body: triggers: connection is a number from 1 on",
        ),
        (
            {"type": "latency", "triggers": {"pattern": {"regex": "("}}},
            400,
            "bad request body: triggers: pattern is an expression (missing ), unterminated subpattern",
        ),
        (
            {"type": "latency", "triggers": {"between": [2, 1]}},
            400,
            "bad request body: triggers: between is two",
        ),
        (
            {"type": "latency", "triggers": {"datagram": 1}},
            400,
            "bad request body: latency: on: datagram is for",
        ),
        (
            {"type": "stall", "attributes": {"after": [1]}},
            400,
            "bad request body: the attributes of stall: after is a number of seconds, at least 0, not [1]",
        ),
        (
            {"type": "insert_bytes", "attributes": {"data": "\ud800"}},
            400,
            "bad request body: the attributes of insert_bytes: data is a text, or bytes as",
        ),
        (
            {"type": "insert_bytes", "attributes": {"data": {"hx": "00"}}},
            400,
            'bad request body: unknown field "hx" in data; did you mean hex?',
        ),
        (
            {"type": "latency", "triggers": {"connection": {"from": "a"}}},
            400,
            "bad request body: triggers: connection is a number, a list of them, or",
        ),
        (
            {"type": "latency", "triggers": {"between": 5}},
            400,
            "bad request body: triggers: between is two times in seconds, the second null for ever, not 5",
        ),
        (
            {"type": "latency", "triggers": {"pattern": 5}},
            400,
            "bad request body: triggers: pattern is a text, or bytes as",
        ),
    ],
)
def test_a_toxic_that_cannot_be(api: Api, port: int, body: Any, status: int, error: str) -> None:
    add(api, "latency", name="taken")
    reply = api("POST", "/proxies/a/toxics", body)
    assert reply.status == status, reply.body
    if status != 200:
        assert reply.error[: len(error)] == error
        assert [toxic["name"] for toxic in api("GET", "/proxies/a/toxics").body] == ["taken"]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_change_keeps_what_it_does_not_name(api: Api, port: int, method: str) -> None:
    add(api, "latency", {"latency": 5, "jitter": 2}, toxicity=0.5, triggers={"first": 3})
    path = "/proxies/a/toxics/latency_downstream"
    changed = api(method, path, {"attributes": {"latency": 7}})
    assert changed.status == 200
    assert changed.body["attributes"] == {"latency": 7, "jitter": 2}
    assert (changed.body["toxicity"], changed.body["triggers"]) == (0.5, {"first": 3})
    whole = api(method, path, {**changed.body, "toxicity": 1, "triggers": None}).body
    assert whole["toxicity"] == 1
    assert "triggers" not in whole
    for body, error in [
        ({"name": "b"}, "bad request body: the name of a toxic cannot change"),
        ({"stream": "upstream"}, "bad request body: the stream of a toxic cannot change"),
        ({"attributes": {"rate": 5}}, 'bad request body: unknown field "rate" in the attributes of latency'),
        ({"attributes": {"latency": -5}}, "bad request body: the attributes of latency: latency is"),
        ({"toxicity": -1}, "bad request body: toxicity is a number from 0 to 1"),
    ]:
        reply = api(method, path, body)
        assert (reply.status, reply.error[: len(error)]) == (400, error)
    assert api("GET", path).body == whole


# -- what they do


def test_latency_is_in_milliseconds(api: Api, port: int) -> None:
    add(api, "latency", {"latency": 60})
    with to(port) as client:
        begun = time.monotonic()
        client.send_all(b"x")
        client.read_exactly(1)
        assert 0.06 <= time.monotonic() - begun < 1


def test_bandwidth_is_in_thousands_of_bytes(api: Api, port: int) -> None:
    add(api, "bandwidth", {"rate": 200})
    with to(port) as client:
        begun = time.monotonic()
        client.send_all(bytes(20_000))
        client.read_exactly(20_000)
        assert 0.09 <= time.monotonic() - begun < 1


def test_a_bandwidth_of_0_lets_nothing_pass_until_it_is_taken_away(api: Api, port: int) -> None:
    add(api, "bandwidth", {"rate": 0}, stream="upstream")
    with to(port) as client:
        client.send_all(b"hi")
        assert api("GET", "/proxies/a/connections").status == 200
        assert api("DELETE", "/proxies/a/toxics/bandwidth_upstream").status == 204
        assert client.read_exactly(2) == b"hi"


def test_timeout_swallows_and_closes(api: Api, port: int) -> None:
    add(api, "timeout", {"timeout": 30})
    with to(port) as client:
        client.send_all(b"hi")
        assert client.read_eof() == b""


def test_timeout_of_0_swallows_until_it_is_taken_away(api: Api, port: int) -> None:
    add(api, "timeout", {"timeout": 0}, stream="upstream")
    with to(port) as client:
        client.send_all(b"lost")
        wait_until(api, lambda one: one["upstream"]["received"] == 4)
        api("DELETE", "/proxies/a/toxics/timeout_upstream")
        client.send_all(b"kept")
        assert client.read_exactly(4) == b"kept"


def test_limit_data_and_slicer(api: Api, port: int) -> None:
    add(api, "slicer", {"average_size": 2, "delay": 1000})
    add(api, "limit_data", {"bytes": 5})
    with to(port) as client:
        client.send_all(b"0123456789")
        assert client.read_eof() == b"01234"


def test_slow_close_is_in_milliseconds(api: Api, port: int) -> None:
    add(api, "slow_close", {"delay": 60})
    with to(port) as client:
        begun = time.monotonic()
        client.half_close()
        assert client.read_eof() == b"end"
        assert 0.06 <= time.monotonic() - begun < 1


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_reset_peer_resets_connections_that_exist_already(api: Api, port: int, stream: str) -> None:
    with to(port) as client:
        client.send_all(b"hi")
        assert client.read_exactly(2) == b"hi"
        add(api, "reset_peer", stream=stream)
        with pytest.raises(PeerReset):
            client.read_some()


def test_reset_peer_with_no_toxicity_does_nothing(api: Api, port: int) -> None:
    add(api, "reset_peer", toxicity=0)
    with to(port) as client:
        client.send_all(b"hi")
        client.half_close()
        assert client.read_eof() == b"hiend"


def test_half_close_is_kept(api: Api, port: int) -> None:
    add(api, "latency", {"latency": 1}, stream="both")
    with to(port) as client:
        client.send_all(b"hello")
        client.half_close()
        assert client.read_eof() == b"helloend"


def test_every_fault_of_the_registry_can_be_had_by_its_name(api: Api, echo: Running) -> None:
    made(api, echo, "stream")
    made(api, echo, "datagram", transport="datagram")
    units = {"slicer": {"average_size": 4}}
    for name, kind in registry.items():
        if kind.place == "line":
            transport = "stream" if "stream" in kind.carried_by else "datagram"
            body = {"type": name, "attributes": units.get(name, {})}
            assert api("POST", f"/proxies/{transport}/toxics", body).status == 200, name


def test_triggers_are_those_of_faults(api: Api, port: int) -> None:
    triggers = {"connection": {"from": 1, "to": 9, "step": 2}, "pattern": {"regex": "[A-Z]+"}}
    add(api, "half_close", {"after_bytes": 1}, stream="upstream", triggers=triggers)
    answers = []
    for text in (b"lower", b"UPPER", b"UPPER"):
        with to(port) as client:
            client.send_all(text)
            client.half_close()
            answers.append(client.read_eof())
    assert answers == [b"lowerend", b"UPPERend", b"UPend"]


# -- on which connections


def hit(api: Api, port: int, count: int, name: str = "a") -> list[bool]:
    """Which of so many new connections lose what they send."""
    before = len(api("GET", f"/proxies/{name}/connections").body)
    for _ in range(count):
        with to(port) as client:
            client.send_all(b"hi")
            client.half_close()
            client.read_eof()
    shown = api("GET", f"/proxies/{name}/connections").body[before:]
    return ["limit_data" in one["hits"] for one in shown]


def test_toxicity_is_drawn_once_for_each_connection_and_repeats_with_the_seed(
    api: Api, port: int, echo: Running
) -> None:
    toxic = {"type": "limit_data", "attributes": {"bytes": 0}, "toxicity": 0.5}
    patterns = []
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        other = made(api, echo, name, seed=seed, toxics=[toxic])
        patterns.append(hit(api, other, 30, name))
    assert patterns[0] == patterns[1] != patterns[2]
    assert 5 < sum(patterns[0]) < 25


def test_another_toxic_draws_nothing_anew(api: Api, port: int, echo: Running) -> None:
    toxic = {"type": "limit_data", "attributes": {"bytes": 0}, "toxicity": 0.5}
    expected = hit(api, made(api, echo, "alone", seed=7, toxics=[toxic]), 30, "alone")
    crowded = made(api, echo, "crowded", seed=7, toxics=[{"type": "slow_close", "toxicity": 0.5}, toxic])
    first = hit(api, crowded, 10, "crowded")
    api("POST", "/proxies/crowded/toxics", {"type": "limit_data", "name": "x", "attributes": {"bytes": 99}})
    assert [*first, *hit(api, crowded, 20, "crowded")] == expected


def test_a_live_connection_stays_hit_or_spared_whatever_else_changes(api: Api, port: int) -> None:
    add(api, "timeout", {"timeout": 0}, stream="upstream", toxicity=0.5)
    with ExitStack() as stack:
        crowd = [stack.enter_context(to(port)) for _ in range(16)]
        shown = wait_until(api, lambda one: one["state"] == "open", count=16)
        spared = ["blackhole" not in one["hits"] for one in shown]
        assert 0 < sum(spared) < 16
        still_as_before(api, crowd, spared)
        add(api, "slow_close", {"delay": 1}, stream="upstream")
        add(api, "latency", {"latency": 1}, stream="upstream", toxicity=0.5)
        still_as_before(api, crowd, spared)
        api("DELETE", "/proxies/a/toxics/slow_close_upstream")
        still_as_before(api, crowd, spared)


def still_as_before(api: Api, crowd: list[clients.StreamClient], spared: list[bool]) -> None:
    for client in crowd:
        client.send_all(b"x")
    for client, is_spared in zip(crowd, spared, strict=True):
        if is_spared:
            assert client.read_exactly(1) == b"x"
    shown = api("GET", "/proxies/a/connections").body
    assert [bool(one["upstream"]["sent"]) for one in shown] == spared


def wait_until(api: Api, ready: Any, *, count: int = 1) -> list[dict[str, Any]]:
    """The connections, once there are so many and all are ready."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        shown: list[dict[str, Any]] = api("GET", "/proxies/a/connections").body
        if len(shown) >= count and all(map(ready, shown)):
            return shown
    raise AssertionError(f"not in time: {shown}")


# -- while connections live


def test_toxics_come_change_and_go_and_not_a_byte_is_lost(api: Api, port: int) -> None:
    enough = threading.Event()
    draws = random.Random(7)
    sent: list[bytes] = []
    got: list[bytes] = []

    def send(client: clients.StreamClient) -> None:
        while not enough.is_set() and len(sent) < 2000:
            sent.append(draws.randbytes(1 << 14))
            client.send_all(sent[-1])
        client.half_close()

    def receive(client: clients.StreamClient) -> None:
        got.append(client.read_eof(timeout=30))

    with to(port) as client:
        threads = [threading.Thread(target=work, args=(client,)) for work in (send, receive)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            add(api, "latency", {"latency": 3, "jitter": 2}, stream="both")
            add(api, "slicer", {"average_size": 700, "size_variation": 300}, stream="upstream")
            add(api, "bandwidth", {"rate": 20_000})
            api("PATCH", "/proxies/a/toxics/latency_both", {"attributes": {"latency": 1}})
            api("PATCH", "/proxies/a/toxics/bandwidth_downstream", {"attributes": {"rate": 50_000}})
            api("DELETE", "/proxies/a/toxics/slicer_upstream")
            api("DELETE", "/proxies/a/toxics/latency_both")
            api("DELETE", "/proxies/a/toxics/bandwidth_downstream")
        enough.set()
        for thread in threads:
            thread.join(30)
    assert b"".join(got) == b"".join([*sent, b"end"])


def test_many_clients_change_many_things_at_once(api: Api, echo: Running) -> None:
    unexpected: list[Any] = []

    def work(number: int) -> None:
        for turn in range(10):
            for method, path, body, fine in [
                (
                    "POST",
                    "/proxies",
                    {"name": f"p{turn % 3}", "upstream": f"{echo.host}:{echo.port}"},
                    {201, 409},
                ),
                (
                    "POST",
                    f"/proxies/p{turn % 3}/toxics",
                    {"type": "latency", "name": f"t{number % 2}"},
                    {200, 404, 409},
                ),
                ("PATCH", f"/proxies/p{turn % 3}", {"enabled": bool(turn % 2)}, {200, 404}),
                ("GET", "/proxies", None, {200}),
                ("GET", "/metrics", None, {200}),
                ("PATCH", f"/proxies/p{turn % 3}/toxics/t0", {"toxicity": 0.5}, {200, 404}),
                ("DELETE", f"/proxies/p{turn % 3}/toxics/t1", None, {204, 404}),
                ("POST", "/reset", None, {204}),
                ("DELETE", f"/proxies/p{(turn + number) % 3}", None, {204, 404}),
            ]:
                reply = api(method, path, body)
                if reply.status not in fine:
                    unexpected.append((method, path, reply.status, reply.body))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not unexpected
    assert api.server.errors == []


def test_the_address_of_a_proxy_is_free_again_at_once(api: Api, port: int) -> None:
    with to(port) as client:
        client.send_all(b"hi")
        api("DELETE", "/proxies/a")
        assert client.read_eof() in (b"", b"hi")
    with socket.create_server(("127.0.0.1", port)):
        pass

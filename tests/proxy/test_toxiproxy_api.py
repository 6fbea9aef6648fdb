"""Every endpoint of Toxiproxy's API, and every way to be refused by one."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from servertest import clients
from servertest.launch import Running, launch
from servertest.proxy.toxiproxy import ApiServer, Collection
from tests.proxy._asking import Api
from tests.proxy.conftest import LIMIT, Upper, UpperDatagram


@pytest.fixture
def server(stack: ExitStack) -> ApiServer:
    collection = stack.enter_context(Collection(seed=7))
    return stack.enter_context(ApiServer(collection, port=0))


@pytest.fixture
def api(server: ApiServer) -> Api:
    return Api(server)


@pytest.fixture
def upstream(upper: Running) -> str:
    return f"{upper.host}:{upper.port}"


@pytest.fixture
def proxy(api: Api, upstream: str) -> dict[str, Any]:
    made: dict[str, Any] = api("POST", "/proxies", {"name": "a", "upstream": upstream}).body
    return made


def ask(listen: str, text: bytes = b"hi\n") -> bytes:
    host, _, port = listen.rpartition(":")
    with clients.connect((host, int(port)), timeout=LIMIT) as client:
        client.send_all(text)
        return client.readline()


def refused(listen: str) -> bool:
    host, _, port = listen.rpartition(":")
    with socket.socket() as sock:
        return sock.connect_ex((host, int(port))) != 0


# -- proxies


def test_a_proxy_is_made_shown_and_deleted(api: Api, upstream: str) -> None:
    made = api("POST", "/proxies", {"name": "a", "upstream": upstream, "listen": "localhost:0"})
    listen = made.body["listen"]

    assert made.status == 201
    assert listen.startswith("127.0.0.1:")
    assert not listen.endswith(":0")
    assert made.body == {
        "name": "a",
        "listen": listen,
        "upstream": upstream,
        "enabled": True,
        "seed": made.body["seed"],
        "toxics": [],
    }
    assert ask(listen) == b"HI\n"
    assert api("GET", "/proxies").body == {"a": made.body}
    assert api("GET", "/proxies/a").body == made.body
    deleted = api("DELETE", "/proxies/a")
    assert (deleted.status, deleted.body) == (204, None)
    assert refused(listen)
    assert api("GET", "/proxies").body == {}


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "bad request body: EOF"),
        (b"{", 400, "bad request body: "),
        (b"[]", 400, "bad request body: the body is an object, not []"),
        ({"upstream": "127.0.0.1:1"}, 400, "missing required field: name"),
        ({"name": "", "upstream": "127.0.0.1:1"}, 400, "missing required field: name"),
        ({"name": "b"}, 400, "missing required field: upstream"),
        ({"name": "b", "upstream": ""}, 400, "missing required field: upstream"),
        ({"name": 5, "upstream": "127.0.0.1:1"}, 400, "bad request body: name is a text, not 5"),
        ({"name": "b\n", "upstream": "127.0.0.1:1"}, 400, "bad request body: name is a text of printable"),
        (
            {"name": "b", "upstream": "127.0.0.1"},
            400,
            "bad request body: upstream: '127.0.0.1' is no address",
        ),
        ({"name": "b", "upstream": "127.0.0.1:70000"}, 400, "bad request body: upstream: "),
        ({"name": "b", "upstream": "127.0.0.1:1", "listen": "x"}, 400, "bad request body: listen: "),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "listen": "0.0.0.0:0"},
            400,
            "bad request body: listen: 0.0.0.0:0 can be reached from other machines",
        ),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "enabled": "yes"},
            400,
            'bad request body: enabled is true or false, not "yes"',
        ),
        (
            {"name": "b", "upstrem": "127.0.0.1:1"},
            400,
            "missing required field: upstream",
        ),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "enbled": False},
            400,
            'bad request body: unknown field "enbled" in the body; did you mean enabled?',
        ),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "seed": 1.5},
            400,
            "bad request body: seed is a whole number or a text, not 1.5",
        ),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "transport": "udp"},
            400,
            'bad request body: transport is one of stream, datagram, not "udp"',
        ),
        ({"name": "a", "upstream": "127.0.0.1:1"}, 409, "proxy already exists"),
        (
            {"name": "b", "upstream": "127.0.0.1:1", "tls": "expird"},
            400,
            "bad request body: there is no TLS profile 'expird'",
        ),
    ],
)
def test_a_proxy_that_cannot_be(api: Api, proxy: dict[str, Any], body: Any, status: int, error: str) -> None:
    reply = api("POST", "/proxies", body)
    assert reply.status == status
    assert reply.error.startswith(error)
    assert list(api("GET", "/proxies").body) == ["a"]


def test_an_address_that_is_taken(api: Api, proxy: dict[str, Any], upstream: str) -> None:
    reply = api("POST", "/proxies", {"name": "b", "upstream": upstream, "listen": proxy["listen"]})
    assert reply.status == 409
    assert "is in use" in reply.error
    assert api("GET", "/proxies/b").status == 404


def test_an_address_without_a_host_is_of_this_machine_alone(api: Api, upstream: str) -> None:
    made = api("POST", "/proxies", {"name": "a", "upstream": upstream, "listen": ":0"}).body
    assert made["listen"].startswith("127.0.0.1:")
    assert ask(made["listen"]) == b"HI\n"


def test_a_disabled_proxy_takes_nobody_until_it_is_enabled(api: Api, upstream: str) -> None:
    body = {"name": "a", "upstream": upstream, "listen": "127.0.0.1:0", "enabled": False}
    made = api("POST", "/proxies", body).body
    assert (made["enabled"], made["listen"]) == (False, "127.0.0.1:0")

    enabled = api("PATCH", "/proxies/a", {"enabled": True})
    assert enabled.status == 200
    assert ask(enabled.body["listen"]) == b"HI\n"


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_disabled_means_down_and_enabled_again_on_the_same_address(
    api: Api, proxy: dict[str, Any], method: str
) -> None:
    host, _, port = proxy["listen"].rpartition(":")
    with clients.connect((host, int(port)), timeout=LIMIT) as client:
        client.send_all(b"hi\n")
        assert client.readline() == b"HI\n"
        down = api(method, "/proxies/a", {"enabled": False})
        assert (down.status, down.body["enabled"]) == (200, False)
        assert client.read_eof() == b""
    assert refused(proxy["listen"])
    up = api(method, "/proxies/a", {"enabled": True}).body
    assert up["listen"] == proxy["listen"]
    assert ask(up["listen"]) == b"HI\n"


def test_an_address_that_somebody_else_took_while_it_was_not_used(api: Api, upstream: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        body = {"name": "a", "upstream": upstream, "listen": listen, "enabled": False}
        assert api("POST", "/proxies", body).status == 201
        for method, path, change in [("PATCH", "/proxies/a", {"enabled": True}), ("POST", "/reset", None)]:
            reply = api(method, path, change)
            assert reply.status == 409
            assert "is in use" in reply.error
        assert not api("GET", "/proxies/a").body["enabled"]
    assert api("POST", "/reset").status == 204
    assert ask(listen) == b"HI\n"


def test_what_repeats_a_populate_may_bring_other_toxics(api: Api, upstream: str) -> None:
    def populate(*toxics: dict[str, Any]) -> list[Any]:
        wanted = [{"name": "a", "upstream": upstream, "toxics": list(toxics)}]
        shown = api("POST", "/populate", wanted).body["proxies"][0]["toxics"]
        return [(toxic["name"], toxic["attributes"]) for toxic in shown]

    assert populate({"type": "limit_data", "attributes": {"bytes": 1}}) == [
        ("limit_data_downstream", {"bytes": 1})
    ]
    again = populate({"type": "limit_data", "attributes": {"bytes": 2}}, {"type": "slow_close"})
    assert again == [("limit_data_downstream", {"bytes": 2}), ("slow_close_downstream", {"delay": 0})]


def test_a_client_may_send_back_what_it_was_shown(api: Api, proxy: dict[str, Any]) -> None:
    """Some save whole proxies, with the toxics that they once had."""
    stale = {**proxy, "toxics": [{"type": "latency", "name": "gone"}], "enabled": False}
    shown = api("POST", "/proxies/a", stale).body
    assert (shown["enabled"], shown["toxics"], shown["listen"]) == (False, [], proxy["listen"])


def test_another_server_and_another_address(api: Api, proxy: dict[str, Any], stack: ExitStack) -> None:
    other = stack.enter_context(launch(Greeter))
    api("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"latency": 1}})
    moved = api("PATCH", "/proxies/a", {"upstream": f"{other.host}:{other.port}"}).body
    assert moved["listen"] == proxy["listen"]
    assert ask(moved["listen"], b"") == b"hello\n"

    elsewhere = api("PATCH", "/proxies/a", {"listen": "127.0.0.1:0"}).body
    assert elsewhere["listen"] != proxy["listen"]
    assert [toxic["name"] for toxic in elsewhere["toxics"]] == ["latency_downstream"]
    assert refused(proxy["listen"])
    assert ask(elsewhere["listen"], b"") == b"hello\n"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"name": "b"}, 400, "bad request body: the name of a proxy cannot change"),
        ({"upstream": ""}, 400, "missing required field: upstream"),
        ({"upstream": "nothing"}, 400, "bad request body: upstream: 'nothing' is no address"),
        ({"listen": "8.8.8.8:1"}, 400, "bad request body: listen: 8.8.8.8:1 can be reached"),
        ({"toxicity": 1}, 400, 'bad request body: unknown field "toxicity"'),
        ({"transport": "datagram"}, 400, "bad request body: timeout: Timeout is not for a datagram"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(
    api: Api, proxy: dict[str, Any], body: Any, status: int, error: str
) -> None:
    api("POST", "/proxies/a/toxics", {"type": "timeout", "toxicity": 0, "attributes": {"timeout": 5}})
    before = api("GET", "/proxies/a").body
    reply = api("PATCH", "/proxies/a", body)
    assert (reply.status, reply.error[: len(error)]) == (status, error)
    assert api("GET", "/proxies/a").body == before
    assert ask(proxy["listen"]) == b"HI\n"


def test_a_move_to_an_address_that_is_taken_leaves_it_where_it_is(
    api: Api, proxy: dict[str, Any], upstream: str
) -> None:
    other = api("POST", "/proxies", {"name": "b", "upstream": upstream}).body
    assert api("PATCH", "/proxies/a", {"listen": other["listen"]}).status == 409
    assert api("GET", "/proxies/a").body == proxy
    assert ask(proxy["listen"]) == b"HI\n"


class Greeter(Upper):
    def handle(self) -> None:
        self.wfile.write(b"hello\n")


# -- populate and reset


def test_populate_makes_many_and_keeps_those_that_are_the_same(api: Api, upstream: str) -> None:
    wanted = [
        {"name": "a", "upstream": upstream, "listen": "127.0.0.1:0"},
        {"name": "b", "upstream": upstream, "enabled": False},
    ]
    made = api("POST", "/populate", wanted)
    assert made.status == 201
    assert [(one["name"], one["enabled"]) for one in made.body["proxies"]] == [("a", True), ("b", False)]

    api("POST", "/proxies/a/toxics", {"type": "latency"})
    again = api("POST", "/populate", wanted).body["proxies"]
    assert again[0]["listen"] == made.body["proxies"][0]["listen"]
    assert len(again[0]["toxics"]) == 1

    other = api("POST", "/populate", [{"name": "a", "upstream": "127.0.0.1:1"}]).body["proxies"]
    assert (other[0]["upstream"], other[0]["toxics"]) == ("127.0.0.1:1", [])
    assert list(api("GET", "/proxies").body) == ["b", "a"]


def test_populate_may_bring_toxics_so_that_no_connection_escapes_them(api: Api, upstream: str) -> None:
    toxic = {"type": "limit_data", "attributes": {"bytes": 1}}
    made = api("POST", "/populate", [{"name": "a", "upstream": upstream, "toxics": [toxic]}]).body
    assert ask(made["proxies"][0]["listen"]) == b"H"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "bad request body: the body is a list of proxies"),
        ([{"name": "z", "upstream": "127.0.0.1:1"}, {}], "missing required field: name at proxy 2"),
        ([{"name": "z"}], "missing required field: upstream at proxy 1"),
        ([5], "bad request body: proxy 1 is an object, not 5"),
        ([{"name": "z", "upstream": "x"}], "proxy 1: bad request body: upstream: 'x' is no address"),
        (
            [{"name": "z", "upstream": "127.0.0.1:1"}, {"name": "z", "upstream": "127.0.0.1:1"}],
            "bad request body: proxy 2: the name 'z' is there twice",
        ),
        (
            [{"name": "z", "upstream": "127.0.0.1:1", "toxics": [{"type": "nix"}]}],
            "proxy 1, toxic 1: invalid toxic type",
        ),
    ],
)
def test_populate_that_cannot_be_makes_nothing(api: Api, body: Any, error: str) -> None:
    reply = api("POST", "/populate", body)
    assert (reply.status, reply.body["proxies"]) == (400, None)
    assert reply.error.startswith(error)
    assert api("GET", "/proxies").body == {}


def test_populate_says_how_far_it_came(api: Api, proxy: dict[str, Any], upstream: str) -> None:
    taken = {"name": "z", "upstream": upstream, "listen": proxy["listen"]}
    reply = api("POST", "/populate", [{"name": "b", "upstream": upstream}, taken])
    assert reply.status == 409
    assert [one["name"] for one in reply.body["proxies"]] == ["b"]


def test_reset_enables_all_and_takes_toxics_away(api: Api, proxy: dict[str, Any]) -> None:
    api("POST", "/proxies/a/toxics", {"type": "latency"})
    api("POST", "/proxies/a", {"enabled": False})
    reset = api("POST", "/reset")
    assert (reset.status, reset.body) == (204, None)
    assert api("GET", "/proxies/a").body == proxy
    assert ask(proxy["listen"]) == b"HI\n"


# -- the rest


def test_version_and_metrics(api: Api, proxy: dict[str, Any], upstream: str) -> None:
    assert api("GET", "/version").body["version"] == "2.12.0"
    api("POST", "/proxies/a/toxics", {"type": "latency", "attributes": {"latency": 1}})
    assert ask(proxy["listen"]) == b"HI\n"
    reply = api("GET", "/metrics")
    labels = f'listener="{proxy["listen"]}",proxy="a",upstream="{upstream}"'
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for direction in ("upstream", "downstream"):
        for what in ("received", "sent"):
            name = f"toxiproxy_proxy_{what}_bytes_total"
            assert f"# TYPE {name} counter" in reply.body
            assert f'{name}{{direction="{direction}",{labels}}} 3\n' in reply.body
    assert 'servertest_proxy_fault_hits_total{fault="latency",proxy="a"} 1\n' in reply.body


def test_what_is_not_there_and_what_may_not_be_done(api: Api, proxy: dict[str, Any]) -> None:
    for method, path in [
        ("GET", "/"),
        ("GET", "/nothing"),
        ("GET", "/proxies/"),
        ("GET", "/proxies/b"),
        ("PATCH", "/proxies/b"),
        ("DELETE", "/proxies/b"),
        ("GET", "/proxies/b/toxics"),
        ("POST", "/proxies/b/toxics"),
        ("GET", "/proxies/a/toxics/x"),
        ("POST", "/proxies/a/toxics/x"),
        ("DELETE", "/proxies/a/toxics/x"),
        ("GET", "/proxies/a/toxics/x/y"),
    ]:
        assert api(method, path).status == 404, (method, path)
    for method, path, allowed in [
        ("PUT", "/proxies", "GET, POST"),
        ("DELETE", "/proxies", "GET, POST"),
        ("GET", "/populate", "POST"),
        ("GET", "/reset", "POST"),
        ("PUT", "/proxies/a", "GET, POST, PATCH, DELETE"),
        ("OPTIONS", "/version", "GET"),
    ]:
        reply = api(method, path)
        assert (reply.status, reply.headers["Allow"]) == (405, allowed)
    assert api("GET", "/proxies/a/toxics/x").error == "toxic not found"
    assert api("GET", "/proxies/b/toxics/x").error == "proxy not found"


def test_names_of_all_kinds(api: Api, upstream: str) -> None:
    for name, path in (("a/b", "a%2Fb"), ("ä ö", "%C3%A4%20%C3%B6"), ("..", ".."), ("toxics", "toxics")):
        assert api("POST", "/proxies", {"name": name, "upstream": upstream}).status == 201
        assert api("GET", f"/proxies/{path}").body["name"] == name
        assert api("DELETE", f"/proxies/{path}").status == 204


# -- beyond Toxiproxy


def test_datagrams_and_their_faults(api: Api, stack: ExitStack) -> None:
    udp = stack.enter_context(launch(UpperDatagram, kind="UDPServer"))
    body = {"name": "u", "upstream": f"{udp.host}:{udp.port}", "transport": "datagram", "seed": 3}
    made = api("POST", "/proxies", body).body
    assert (made["transport"], made["seed"]) == ("datagram", 3)
    host, _, port = made["listen"].rpartition(":")
    with clients.connect((host, int(port)), transport="datagram", timeout=LIMIT) as client:
        client.send(b"one")
        assert client.receive() == b"ONE"
        toxic = {"type": "loss", "attributes": {"probability": 1}, "triggers": {"datagram": [1, 2]}}
        assert api("POST", "/proxies/u/toxics", toxic).status == 200
        for text in (b"two", b"three", b"four"):
            client.send(text)
        assert client.receive() == b"FOUR"
    refusal = api("POST", "/proxies/u/toxics", {"type": "timeout"}).error
    assert refusal.startswith("bad request body: timeout: Blackhole is not for a datagram: ")


def test_unix_paths(api: Api, stack: ExitStack) -> None:
    unix = stack.enter_context(launch(Upper, kind="ThreadingUnixStreamServer"))
    made = api("POST", "/proxies", {"name": "u", "upstream": unix.path}).body
    with clients.connect(made["listen"], timeout=LIMIT) as client:
        client.send_all(b"hi\n")
        assert client.readline() == b"HI\n"
    tcp = api("POST", "/proxies", {"name": "t", "upstream": unix.path, "family": "inet"}).body
    assert ask(tcp["listen"]) == b"HI\n"


def test_tls_ends_here_and_the_authority_is_shown(api: Api, upstream: str) -> None:
    import ssl

    made = api("POST", "/proxies", {"name": "t", "upstream": upstream, "tls": True}).body
    assert made["tls"] is True
    context = ssl.create_default_context(cadata=api("GET", "/authority").body)
    host, _, port = made["listen"].rpartition(":")
    with clients.connect((host, int(port)), tls=context, server_hostname=host, timeout=LIMIT) as client:
        client.send_all(b"hi\n")
        assert client.readline() == b"HI\n"


def test_which_toxic_hit_which_connection(api: Api, proxy: dict[str, Any]) -> None:
    toxic = {"type": "limit_data", "attributes": {"bytes": 2}, "triggers": {"connection": 2}}
    api("POST", "/proxies/a/toxics", toxic)
    assert [ask(proxy["listen"]) for _ in range(3)] == [b"HI\n", b"HI", b"HI\n"]
    shown = api("GET", "/proxies/a/connections").body
    assert [(one["number"], one["hits"]) for one in shown] == [(1, {}), (2, {"limit_data": 1}), (3, {})]
    assert shown[0]["upstream"] == {"received": 3, "sent": 3}
    (decision,) = api("GET", "/proxies/a/decisions").body
    assert decision.pop("time") >= 0
    assert decision == {
        "connection": 2,
        "direction": "downstream",
        "fault": "limit_data",
        "what": "closes after 2 bytes",
    }


def test_seeds_come_from_one_and_differ_by_name(api: Api, stack: ExitStack, upstream: str) -> None:
    again = Api(stack.enter_context(ApiServer(stack.enter_context(Collection(seed=7)), port=0)))
    seeds = [
        asked("POST", "/proxies", {"name": name, "upstream": upstream}).body["seed"]
        for asked in (api, again)
        for name in ("a", "b")
    ]
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]

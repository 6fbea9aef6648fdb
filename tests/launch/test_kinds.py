"""Kinds: values that print, parse and select."""

from __future__ import annotations

import http.server
import os
import pickle
import socket
import socketserver
from typing import Any

import pytest

from servertest import servers
from servertest._support import UsageError
from servertest.launch import Kind, UnknownKind, kinds

EVERY = kinds(family=None, concurrency=None, tls=(False, True, "expired"), host=("thread", "process"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("TCPServer", Kind("stream", "inet", "sync")),
        ("ThreadingTCPServer", Kind()),
        ("ForkingUnixStreamServer", Kind("stream", "unix", "forking")),
        ("ThreadPoolUnixDatagramServer", Kind("datagram", "unix", "pool")),
        ("PreForkUDPServer", Kind("datagram", "inet", "prefork")),
        ("SelectorTCPServer", Kind("stream", "inet", "selector")),
        ("ThreadingTCPServer+ipv6", Kind(family="inet6")),
        ("UDPServer+dual", Kind("datagram", "dual", "sync")),
        ("UnixStreamServer+abstract", Kind("stream", "abstract", "sync")),
        ("ThreadingTCPServer+tls", Kind(tls=True)),
        ("ThreadingTCPServer+ipv6+tls:expired+process", Kind(family="inet6", tls="expired", host="process")),
    ],
)
def test_a_kind_is_written_and_read_alike(text: str, kind: Kind) -> None:
    assert str(kind) == text
    assert Kind.parse(text) == kind


def test_all_kinds_have_an_id_of_their_own_that_reads_back() -> None:
    texts = [str(kind) for kind in EVERY]

    assert len(set(texts)) == len(texts) > 100
    assert [Kind.parse(text) for text in texts] == EVERY
    assert pickle.loads(pickle.dumps(EVERY)) == EVERY


def test_suffixes_go_in_any_order() -> None:
    assert Kind.parse("TCPServer+process+tls+ipv6") == Kind.parse("TCPServer+ipv6+tls+process")


def test_forking_kinds_are_always_in_a_process() -> None:
    assert Kind.parse("ForkingTCPServer").host == "process"
    assert str(Kind.parse("PreForkTCPServer+process")) == "PreForkTCPServer"


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_a_fixtures_name_is_read_too(kind: Kind) -> None:
    assert kind.fixture_name == kind.fixture_name.lower()
    assert Kind.parse(kind.fixture_name) == kind


@pytest.mark.parametrize("kind", kinds(), ids=str)
def test_a_kind_names_the_predefined_class(kind: Kind) -> None:
    cls = kind.server_class

    assert cls.__name__ == str(kind)
    assert Kind.parse(cls) == kind
    assert cls.socket_type == (socket.SOCK_STREAM if kind.transport == "stream" else socket.SOCK_DGRAM)


class Mine(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    pass


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (socketserver.ThreadingUDPServer, "ThreadingUDPServer"),
        (http.server.ThreadingHTTPServer, "ThreadingTCPServer"),
        (servers.ThreadingTCPServer, "ThreadingTCPServer"),
        (Mine, "ForkingUnixStreamServer"),
    ],
)
def test_a_server_class_is_told_by_its_ancestors(cls: type, text: str) -> None:
    assert str(Kind.parse(cls)) == text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("ThreadingTCPServr", "ThreadingTCPServer"),
        ("threadedTCPServer", "ThreadingTCPServer"),
        ("forking_unix_strem_server", "ForkingUnixStreamServer"),
        ("UDP", "UDPServer"),
        ("ThreadingTCPServer+ipv4", "+ipv6"),
        ("UnixStreamServer+ipv6", "+abstract"),
        ("TCPServer+tls:", "+tls:PROFILE"),
        ("nothing at all", "servertest.kinds()"),
    ],
)
def test_an_unknown_kind_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UnknownKind) as caught:
        Kind.parse(wrong)

    assert repr(wrong) in str(caught.value)
    assert right in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("wrong", [None, 5, int, object()])
def test_what_is_no_kind_is_refused(wrong: Any) -> None:
    with pytest.raises(UnknownKind):
        Kind.parse(wrong)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"transport": "pigeon"}, "stream, datagram"),
        ({"family": "ipx"}, "inet6"),
        ({"concurrency": "magic"}, "threading"),
        ({"host": "moon"}, "process"),
        ({"transport": "datagram", "tls": True}, "DTLS"),
        ({"transport": "datagram", "concurrency": "selector"}, "datagrams have none"),
    ],
)
def test_a_kind_that_cannot_be_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Kind(**fields)


def test_the_default_selection_is_the_predefined_classes() -> None:
    texts = {str(kind) for kind in kinds()}

    assert {"TCPServer", "ThreadingUDPServer", "ForkingUnixDatagramServer", "PreForkTCPServer"} <= texts
    assert all("+" not in text for text in texts)


def test_selection_by_one_value_several_or_all() -> None:
    assert {kind.transport for kind in kinds(transport="stream")} == {"stream"}
    assert {kind.concurrency for kind in kinds(concurrency=("sync", "pool"))} == {"sync", "pool"}
    assert {kind.family for kind in kinds(family=None)} == {"inet", "inet6", "dual", "unix", "abstract"}
    assert {kind.tls for kind in kinds(transport="stream", tls=None)} == {False, True}
    assert {kind.transport for kind in kinds(tls="mutual")} == {"stream"}


def test_selection_by_host() -> None:
    assert not any(kind.forks for kind in kinds(host="thread"))
    assert {kind.host for kind in kinds(host="process")} == {"process"}
    assert any(kind.forks for kind in kinds(host="process"))


def test_kinds_are_absent_where_the_platform_has_no_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork")

    assert not any(kind.forks for kind in kinds())
    assert Kind.parse("ForkingTCPServer").reason == "this platform has no fork"


def test_kinds_are_absent_where_the_platform_has_no_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")

    assert not any(kind.local for kind in kinds())
    assert not Kind.parse("UnixStreamServer").available


def test_ipv6_kinds_stay_and_say_why_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.launch._kinds.have_ipv6", lambda: False)
    kind = next(kind for kind in kinds(family="inet6"))

    assert not kind.available
    assert "IPv6" in str(kind.reason)

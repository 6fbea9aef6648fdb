from __future__ import annotations

import socket

import pytest
from hypothesis import given, strategies as st

from servertest._support import Address, AddressError, family_of, format_address, parse_address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("localhost", 80), "localhost:80"),
        (("::1", 80), "[::1]:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("fe80::1", 80, 0, 2), "[fe80::1%2]:80"),
        (("fe80::1%lo", 80, 0, 2), "[fe80::1%lo]:80"),
        ("/tmp/s", "/tmp/s"),
        (b"/tmp/s", "/tmp/s"),
        (b"\0name", "@name"),
        ("\0name", "@name"),
        ("/tmp/new\nline", r"/tmp/new\nline"),
        ("", "(unnamed)"),
        (b"", "(unnamed)"),
        (None, "(unnamed)"),
        ((3, 1234), "(3, 1234)"),
        (17, "17"),
    ],
)
def test_format(address: object, text: str) -> None:
    assert format_address(address) == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[127.0.0.1]:1", ("127.0.0.1", 1)),
        ("/tmp/s", "/tmp/s"),
        ("./s", "./s"),
        ("/tmp/a:80", "/tmp/a:80"),
        ("@name", b"\0name"),
    ],
)
def test_parse(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no address"),
        ("localhost", "is no address"),
        ("80", "is no address"),
        ("@", "is no address"),
        (":80", "names no host"),
        ("[]:80", "names no host"),
        ("::1:80", "in brackets"),
        ("h:", "the port must be"),
        ("h:65536", "the port must be"),
        ("h:-1", "the port must be"),
        ("h:8o", "the port must be"),
        ("h:٣", "the port must be"),
    ],
)
def test_parse_refuses(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        parse_address(text)


@given(
    st.one_of(
        st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535)),
        st.tuples(st.ip_addresses(v=6).map(str), st.integers(0, 65535)),
        st.text("abc:./@", min_size=1).map("/".__add__),
        st.text("abc:.", min_size=1).map(lambda name: b"\0" + name.encode()),
    )
)
def test_what_was_written_is_read_back(address: Address) -> None:
    assert parse_address(format_address(address)) == address


@pytest.mark.parametrize(
    ("address", "family"),
    [
        (("127.0.0.1", 80), socket.AF_INET),
        (("localhost", 80), socket.AF_INET),
        (("::1", 80), socket.AF_INET6),
        (("localhost", 80, 0, 0), socket.AF_INET6),
        ("/tmp/s", socket.AF_UNIX),
        (b"\0name", socket.AF_UNIX),
    ],
)
def test_family(address: Address, family: socket.AddressFamily) -> None:
    assert family_of(address) == family


@pytest.mark.parametrize("address", [80, None, (), ("127.0.0.1",), (80, "127.0.0.1")])
def test_family_of_what_is_no_address(address: Address) -> None:
    with pytest.raises(AddressError, match="is no address"):
        family_of(address)


def test_unix_addresses_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(AddressError, match="/tmp/s is a Unix address, and this platform has no Unix sockets"):
        family_of("/tmp/s")

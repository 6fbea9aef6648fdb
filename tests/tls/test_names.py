"""Which names a certificate carries, and which one a client checks."""

from __future__ import annotations

from typing import Any

import pytest

from servertest._support import UsageError
from servertest.tls import hostname_for, names_for

LOCAL = ("localhost", "127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("address", "names", "hostname"),
    [
        (None, LOCAL, "localhost"),
        (("127.0.0.1", 80), LOCAL, "127.0.0.1"),
        (("::1", 80, 0, 0), LOCAL, "::1"),
        (("localhost", 80), LOCAL, "localhost"),
        (("0.0.0.0", 80), LOCAL, "localhost"),
        (("::", 80, 0, 0), LOCAL, "localhost"),
        (("", 80), LOCAL, "localhost"),
        (("127.0.0.2", 80), ("127.0.0.2",), "127.0.0.2"),
        (("fe80::1%eth0", 80, 0, 2), ("fe80::1",), "fe80::1"),
        (("db.example", 80), ("db.example",), "db.example"),
        ("/run/server.sock", LOCAL, "localhost"),
        ("", LOCAL, "localhost"),
        ("\0abstract", LOCAL, "localhost"),
        ("@abstract", LOCAL, "localhost"),
        (b"\0abstract", LOCAL, "localhost"),
        ("127.0.0.1", LOCAL, "127.0.0.1"),
        ("db.example", ("db.example",), "db.example"),
        (["127.0.0.1"], ("127.0.0.1",), "127.0.0.1"),
        (("a.example", "b.example"), ("a.example", "b.example"), "a.example"),
    ],
)
def test_names(address: Any, names: tuple[str, ...], hostname: str) -> None:
    assert names_for(address) == names
    assert hostname_for(address) == hostname


@pytest.mark.parametrize("nonsense", [[], [""], ["a.example", None], [80, 443]])
def test_nonsense(nonsense: Any) -> None:
    with pytest.raises(UsageError, match="give an address such as"):
        names_for(nonsense)

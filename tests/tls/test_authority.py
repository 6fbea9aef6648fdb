"""The authority: made when it is asked, once, and kept in memory."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from servertest._support import UsageError
from servertest.tls import Authority, ClientCredential, ServerCredential, profiles, shared_authority

from ._tiny import LIMIT, Seen, TinyServer, look_with_ssl

ADDRESS = ("127.0.0.1", 0)
SECRET = b"PRIVATE KEY"

every_profile = pytest.mark.parametrize("name", [profile.name for profile in profiles()])


def modules_after(code: str, *modules: str, stdin: bytes = b"") -> dict[str, bool]:
    """Which modules a fresh interpreter has imported by the end of some code."""
    code += f"\nimport sys\nprint([name in sys.modules for name in {modules!r}])"
    done = subprocess.run(
        [sys.executable, "-c", code], input=stdin, capture_output=True, timeout=60, check=True
    )
    return dict(zip(modules, eval(done.stdout), strict=True))


def test_importing_it_costs_nothing() -> None:
    code = (
        "from servertest.tls import Authority, profile_for, profiles, shared_authority\n"
        "shared_authority(), profiles(), profile_for('expired').symptoms, repr(Authority())"
    )
    assert not any(modules_after(code, "ssl", "trustme", "cryptography", "asyncio", "http").values())


@pytest.mark.parametrize("name", ["mutual", "old-version"])
def test_another_process_needs_no_trustme(name: str, ca: Authority) -> None:
    """It makes its contexts from plain data that came to it."""
    code = (
        "import pickle, sys\n"
        "server, client = pickle.load(sys.stdin.buffer)\n"
        "server.server_context(), client.client_context()"
    )
    pair = (ca.server_credential(ADDRESS, name), ca.client_credential(name))
    imported = modules_after(code, "ssl", "trustme", "cryptography", stdin=pickle.dumps(pair))
    assert imported == {"ssl": True, "trustme": False, "cryptography": False}


def test_a_credential_that_travelled_serves(ca: Authority) -> None:
    server: ServerCredential = pickle.loads(pickle.dumps(ca.server_credential(ADDRESS, "mutual")))
    client: ClientCredential = pickle.loads(pickle.dumps(ca.client_credential("mutual")))
    with TinyServer(server) as running:
        assert look_with_ssl(running.address, client.client_context()) == Seen("end of data", None, b"HI\n")


@every_profile
def test_no_key_is_ever_shown(name: str, ca: Authority) -> None:
    server, client = ca.server_credential(ADDRESS, name), ca.client_credential(name)
    assert SECRET in server.private_key
    shown = f"{server!r} {server} {client!r} {client} {ca!r} {ca}"
    assert "PRIVATE" not in shown
    assert "BEGIN" not in shown
    assert f"profile={name!r}" in repr(server)


def test_what_credentials_say(ca: Authority) -> None:
    assert (
        repr(ca.server_credential("db.example")) == "ServerCredential(profile='good', names=('db.example',))"
    )
    assert repr(ca.client_credential()) == "ClientCredential(profile='good', without a certificate)"
    assert repr(ca.client_credential("mutual")) == "ClientCredential(profile='mutual', with a certificate)"


def test_what_an_authority_says() -> None:
    authority = Authority()
    assert repr(authority) == "<Authority ecdsa, not made yet>"
    authority.server_credential()
    assert repr(authority) == "<Authority ecdsa, 1 certificates>"


def test_an_authority_stays_where_it_is(ca: Authority) -> None:
    with pytest.raises(UsageError, match=r"server_credential\(\)"):
        pickle.dumps(ca)


def test_each_certificate_is_made_once() -> None:
    authority = Authority()
    first = authority.server_credential(ADDRESS)
    assert authority.server_credential(("::1", 80, 0, 0)).certificate == first.certificate
    assert authority.server_credential("/run/x.sock", "ragged-eof").certificate == first.certificate
    assert authority.server_credential("db.example").certificate != first.certificate
    assert authority.server_credential(ADDRESS, "expired").certificate != first.certificate


def test_each_context_is_new(ca: Authority) -> None:
    """So that a test may turn its screws without touching the next one's."""
    assert ca.server_context() is not ca.server_context()
    assert ca.client_context() is not ca.client_context()


def test_many_threads_get_one_authority() -> None:
    authority = Authority()
    start = threading.Barrier(8)

    def ask(number: int) -> bytes:
        start.wait(LIMIT)
        return authority.server_credential(f"{number % 2}.example").certificate + authority.intermediate

    with ThreadPoolExecutor(8) as workers:
        assert len(set(workers.map(ask, range(8)))) == 2


def test_there_is_one_to_share() -> None:
    assert shared_authority() is shared_authority()


def test_an_authority_trusts_no_other(ca: Authority) -> None:
    stranger = Authority()
    with TinyServer(ca.server_credential(ADDRESS)) as server:
        assert look_with_ssl(server.address, stranger.client_context()).when == "handshake"


@pytest.mark.parametrize("name", ["mutual", "self-signed"])
@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_types_of_keys(key_type: Literal["ecdsa", "rsa"], name: str) -> None:
    """On both sides, and where trustme has no part in it."""
    authority = Authority(key_type=key_type)
    expected = {"ecdsa": ec.EllipticCurvePrivateKey, "rsa": rsa.RSAPrivateKey}[key_type]
    server, client = authority.server_credential(ADDRESS, name), authority.client_credential("mutual")
    for private_key in (server.private_key, client.private_key):
        assert isinstance(load_pem_private_key(private_key, None), expected)
    context = client.client_context()
    context.load_verify_locations(cadata=server.certificate.decode())
    with TinyServer(server) as running:
        assert look_with_ssl(running.address, context).received == b"HI\n"


def test_other_keys_are_refused() -> None:
    with pytest.raises(UsageError, match="'ecdsa' or 'rsa', not 'dsa'"):
        Authority(key_type="dsa")  # type: ignore[arg-type]


def test_the_server_sees_who_its_client_is(ca: Authority) -> None:
    seen = []
    with TinyServer(
        ca.server_credential(ADDRESS, "mutual"), lambda tls: seen.append(tls.getpeercert())
    ) as server:
        look_with_ssl(server.address, ca.client_context("mutual"))
        assert server.outcome() is None
    (certificate,) = seen
    assert certificate is not None
    assert (("commonName", "servertest client"),) in certificate["subject"]
    assert certificate["subjectAltName"] == (("email", "client@servertest.invalid"),)


def test_the_names_are_in_the_certificate(ca: Authority) -> None:
    names = ["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"]
    for profile in ("good", "self-signed"):
        with TinyServer(ca.server_credential(names, profile)) as server:
            context = ca.client_context()
            context.load_verify_locations(cadata=ca.server_credential(names, profile).certificate.decode())
            for host in ("a.example", "x.b.example", "192.0.2.1", "2001:db8::1"):
                assert look_with_ssl(server.address, context, host=host).received == b"HI\n"
            assert look_with_ssl(server.address, context, host="127.0.0.1").received == b""

"""Every profile does what its symptoms say, and nothing else is wrong with it."""

from __future__ import annotations

import os
import pickle
import re
import socket
import ssl
import warnings
from dataclasses import replace
from functools import partial

import pytest

from servertest._support import UsageError
from servertest.tls import Authority, HandshakeEnded, Profile, Symptom, profile_for, profiles

from ._tiny import (
    OPENSSL,
    Seen,
    TinyServer,
    look_with_http,
    look_with_openssl,
    look_with_ssl,
    part,
    reply_in_http,
)

ADDRESS = ("127.0.0.1", 0)
IMPATIENT = 0.05  # seconds that a client waits which is going to be stalled

BAD_CERTIFICATES = [profile for profile in profiles() if profile.certificate != "good"]
TLS12 = ssl.TLSVersion.TLSv1_2
TLS13 = ssl.TLSVersion.TLSv1_3

needs_openssl = pytest.mark.skipif(not os.access(OPENSSL, os.X_OK), reason="there is no openssl program here")
every_profile = pytest.mark.parametrize("profile", profiles(), ids=str)


def patience(profile: Profile) -> float:
    return IMPATIENT if profile.behaviour == "stall" else 10.0


def check(seen: Seen, symptom: Symptom | None, good: bytes) -> None:
    if symptom is None:
        assert (seen.error, seen.received) == (None, good)
    else:
        assert symptom.matches(seen.error), seen
        assert seen.when == symptom.when


def check_server(outcome: BaseException | None, symptom: Symptom | None) -> None:
    """The host is told that this was to be expected, and why it happened."""
    if symptom is None:
        assert outcome is None
    else:
        assert isinstance(outcome, HandshakeEnded)
        assert symptom.matches(outcome) or symptom.matches(outcome.__cause__), outcome.__cause__


@every_profile
@pytest.mark.parametrize("version", [TLS13, TLS12], ids=["1.3", "1.2"])
def test_python_ssl(profile: Profile, version: ssl.TLSVersion, ca: Authority) -> None:
    symptoms = profile.symptoms
    context = ca.client_context(profile)
    context.maximum_version = version
    with TinyServer(ca.server_credential(ADDRESS, profile)) as server:
        seen = look_with_ssl(server.address, context, timeout=patience(profile))
        check(seen, symptoms.client if version is TLS13 else symptoms.client_tls12, b"HI\n")
        check_server(server.outcome(), symptoms.server if version is TLS13 else symptoms.server_tls12)


@every_profile
def test_http_client(profile: Profile, ca: Authority) -> None:
    cut_short = profile.behaviour == "ragged"
    reply = partial(reply_in_http, promised=5 if cut_short else 2)
    with TinyServer(ca.server_credential(ADDRESS, profile), reply) as server:
        seen = look_with_http(server.address, ca.client_context(profile), timeout=patience(profile))
        check(seen, profile.symptoms.http, b"HI")
        check_server(server.outcome(), profile.symptoms.server)


@needs_openssl
@every_profile
def test_openssl_s_client(profile: Profile, ca: Authority) -> None:
    expected = profile.symptoms.openssl
    credential = ca.server_credential(ADDRESS, profile)
    with (
        TinyServer(credential, deadline=patience(profile), after_hello=True) as server,
        ca.write_files(address=ADDRESS, profile=profile) as files,
    ):
        output = look_with_openssl(
            server.address, files, with_certificate=profile.client_certificate is not None
        )
    assert expected.text in output
    assert f"Verify return code: {expected.verify_code} " in output
    assert ("\nHI\n" in output) == (not profile.refusal_is_the_point)


@needs_openssl
def test_openssl_s_client_sees_nothing_wrong_with_good(ca: Authority) -> None:
    """What it prints for the other profiles does not stand there anyway."""
    telling = [profile.symptoms.openssl.text for profile in profiles() if profile.name != "good"]
    with TinyServer(ca.server_credential(ADDRESS)) as server, ca.write_files(address=ADDRESS) as files:
        output = look_with_openssl(server.address, files, with_certificate=False)
    assert [text for text in telling if text in output] == []


@pytest.mark.parametrize("profile", BAD_CERTIFICATES, ids=str)
def test_a_client_that_does_not_verify_is_served(profile: Profile, ca: Authority) -> None:
    careless = ca.client_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with TinyServer(ca.server_credential(ADDRESS, profile)) as server:
        assert look_with_ssl(server.address, careless) == Seen("end of data", None, b"HI\n")
        assert server.outcome() is None


def test_wrong_host_is_right_for_the_other_host(ca: Authority) -> None:
    with TinyServer(ca.server_credential(ADDRESS, "wrong-host")) as server:
        seen = look_with_ssl(server.address, ca.client_context(), host="wrong-host.invalid")
        assert seen.received == b"HI\n"


def test_wrong_host_has_another_code_for_names(ca: Authority) -> None:
    with TinyServer(ca.server_credential(ADDRESS, "wrong-host")) as server:
        error = look_with_ssl(server.address, ca.client_context(), host="localhost").error
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 62


def test_self_signed_is_fine_for_whoever_trusts_it(ca: Authority) -> None:
    credential = ca.server_credential(ADDRESS, "self-signed")
    context = ssl.create_default_context(cadata=credential.certificate.decode())
    with TinyServer(credential) as server:
        assert look_with_ssl(server.address, context).received == b"HI\n"


def test_untrusted_is_not_trusted_by_accident(ca: Authority) -> None:
    """A stranger's authority, not one more authority of ours."""
    stranger = Authority()
    with TinyServer(stranger.server_credential(ADDRESS)) as server:
        seen = look_with_ssl(server.address, ca.client_context())
        symptom = profile_for("untrusted").symptoms.client
        assert symptom is not None
        assert symptom.matches(seen.error)


def test_incomplete_chain_is_fine_for_whoever_has_the_rest(ca: Authority) -> None:
    context = ca.client_context()
    context.load_verify_locations(cadata=ca.intermediate.decode())
    with TinyServer(ca.server_credential(ADDRESS, "incomplete-chain")) as server:
        assert look_with_ssl(server.address, context).received == b"HI\n"


@pytest.mark.parametrize("name", ["no-client-cert", "expired-client-cert"])
def test_bad_clients_are_served_with_a_good_certificate(name: str, ca: Authority) -> None:
    with TinyServer(ca.server_credential(ADDRESS, name)) as server:
        seen = look_with_ssl(server.address, ca.client_context(name, with_certificate=True))
        assert seen.received == b"HI\n"


def test_mutual_without_a_certificate_is_an_error_of_the_clients(ca: Authority) -> None:
    """Other than with no-client-cert nobody asked for it, so the server reports it, with a hint."""
    with TinyServer(ca.server_credential(ADDRESS, "mutual")) as server:
        look_with_ssl(server.address, ca.client_context("mutual", with_certificate=False))
        outcome = server.outcome()
    assert isinstance(outcome, ssl.SSLError)
    assert outcome.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
    assert 'client_context("mutual")' in outcome.__notes__[0]


def test_old_version_serves_old_clients(ca: Authority) -> None:
    context = ca.client_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with TinyServer(ca.server_credential(ADDRESS, "old-version")) as server:
        assert look_with_ssl(server.address, context).received == b"HI\n"


def test_old_version_warns_nobody(ca: Authority) -> None:
    """Python calls TLS 1.1 deprecated, which is the point here; and nothing is changed to keep it quiet."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        context = ca.server_context(ADDRESS, "old-version")
        assert warnings.filters == before
    assert caught == []
    assert context.maximum_version < TLS12


def test_old_version_says_when_openssl_is_too_new(ca: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "HAS_TLSv1_1", False)
    with pytest.raises(UsageError, match=r"built without TLS 1\.1"):
        ca.server_context(ADDRESS, "old-version")


def test_a_ragged_end_is_hidden_from_clients_that_do_not_ask(ca: Authority) -> None:
    """Python's default: the client reads an end where there was none. What docs/tls.md warns of."""
    with (
        TinyServer(ca.server_credential(ADDRESS, "ragged-eof")) as server,
        socket.create_connection(server.address, 10) as plain,
        ca.client_context().wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(b"hi\n")
        assert (tls.recv(100), tls.recv(100)) == (b"HI\n", b"")


def test_a_ragged_end_is_hidden_from_http_without_a_length(ca: Authority) -> None:
    def reply(tls: ssl.SSLSocket) -> None:
        tls.recv(65536)
        tls.sendall(b"HTTP/1.0 200 OK\r\n\r\nhalf of it")
        part(tls)

    with TinyServer(ca.server_credential(ADDRESS, "ragged-eof"), reply) as server:
        assert look_with_http(server.address, ca.client_context()) == Seen("read", None, b"half of it")


def test_the_names_that_were_promised() -> None:
    assert [profile.name for profile in profiles()] == [
        "good",
        "mutual",
        "expired",
        "not-yet-valid",
        "wrong-host",
        "untrusted",
        "self-signed",
        "incomplete-chain",
        "no-client-cert",
        "expired-client-cert",
        "old-version",
        "handshake-stall",
        "handshake-reset",
        "ragged-eof",
    ]


@every_profile
def test_a_profile_is_plain_data(profile: Profile) -> None:
    assert pickle.loads(pickle.dumps(profile)) == profile
    assert hash(profile)
    assert str(profile) == profile.name
    assert profile.summary.endswith(".")
    assert (profile.culprit is None) == (profile.symptoms.client is None)


def test_profiles_by_name() -> None:
    assert profile_for("expired").name == "expired"
    assert profile_for(True) is profile_for("good")
    own = replace(profile_for("expired"), name="mine", requires_client_certificate=True)
    assert profile_for(own) is own


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("expird", "'expired'"), ("Mutual", "'mutual'"), ("wrong_host", "'wrong-host'")]
)
def test_an_unknown_name_gets_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no TLS profile '{wrong}'; did you mean {nearest}"):
        profile_for(wrong)


@pytest.mark.parametrize("nonsense", ["zzz", "", False, None, 3])
def test_nonsense_gets_the_list(nonsense: object) -> None:
    with pytest.raises(
        UsageError, match=re.escape(f"no TLS profile {nonsense!r}. There are: good, mutual, ")
    ):
        profile_for(nonsense)  # type: ignore[arg-type]


def test_symptoms_are_particular() -> None:
    symptom = Symptom("ssl.SSLCertVerificationError", "CERTIFICATE_VERIFY_FAILED", (10,))
    assert symptom.exception is ssl.SSLCertVerificationError
    assert str(symptom) == "ssl.SSLCertVerificationError(CERTIFICATE_VERIFY_FAILED, verify_code 10)"
    assert not symptom.matches(None)
    assert not symptom.matches(ssl.SSLError(1, "another class"))
    other = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert not symptom.matches(other)
    other.verify_code = 10
    other.reason = "ANOTHER"
    assert not symptom.matches(other)
    other.reason = "CERTIFICATE_VERIFY_FAILED"
    other.verify_code = 9
    assert not symptom.matches(other)
    other.verify_code = 10
    assert symptom.matches(other)


def test_symptoms_may_be_built_in() -> None:
    symptom = Symptom("TimeoutError")
    assert symptom.exception is TimeoutError
    assert str(symptom) == "TimeoutError"

"""The TLS profiles there are.

Each one has the good certificate and the good behaviour but for the one thing that it is named after: a client that
does not mind that thing is served.
"""

from __future__ import annotations

from .._support import UsageError
from ._profile import Profile
from ._symptoms import OpenSSLSymptom, Symptom, Symptoms

__all__ = ("profile_for", "profiles")


def profiles() -> tuple[Profile, ...]:
    """All profiles there are, the good ones first."""
    return tuple(_PROFILES.values())


def profile_for(choice: str | bool | Profile) -> Profile:
    """The profile of this name; ``True`` is ``good``.

    Args:
        choice: A name, True, or a profile (perhaps one of your own, made with `dataclasses.replace`).

    Raises:
        UsageError: There is none of this name; the message has the nearest.
    """
    if isinstance(choice, Profile):
        return choice
    name = "good" if choice is True else choice
    if isinstance(name, str) and name in _PROFILES:
        return _PROFILES[name]
    import difflib

    near = difflib.get_close_matches(str(name), _PROFILES, n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise UsageError(f"there is no TLS profile {name!r}{meant} There are: {', '.join(_PROFILES)}")


def _bad_certificate(*codes: int, alert: str, text: str) -> Symptoms:
    """A server's certificate that a correct client does not accept, for which it sends an alert."""
    return Symptoms.of_handshake(
        Symptom("ssl.SSLCertVerificationError", "CERTIFICATE_VERIFY_FAILED", codes),
        Symptom("ssl.SSLError", alert),
        OpenSSLSymptom(text, codes[-1]),
    )


def _bad_client(*, alert: str, alert_tls12: str, text: str, server: Symptom) -> Symptoms:
    """A client that the server does not accept.

    In TLS 1.3 the client is done before the server has seen its certificate, and learns what became of it when it
    reads for the first time (RFC 8446, figure 1).
    """
    return Symptoms(
        client=Symptom("ssl.SSLError", alert, when="first read"),
        client_tls12=Symptom("ssl.SSLError", alert_tls12),
        http=Symptom("ssl.SSLError", alert, when="getresponse"),
        server=server,
        server_tls12=server,
        openssl=OpenSSLSymptom(text),
    )


_ALL = (
    Profile(
        name="good",
        summary="Nothing is wrong: a certificate for the server's address, from the authority.",
        culprit=None,
        symptoms=Symptoms(openssl=OpenSSLSymptom("Verification: OK")),
    ),
    Profile(
        name="mutual",
        summary="Nothing is wrong: the server insists on a certificate of the client, which presents a good one.",
        culprit=None,
        requires_client_certificate=True,
        client_certificate="good",
        symptoms=Symptoms(openssl=OpenSSLSymptom("Requested Signature Algorithms")),
    ),
    Profile(
        name="expired",
        summary="The server's certificate ended in 2001.",
        culprit="server",
        certificate="expired",
        symptoms=_bad_certificate(
            10, alert="SSLV3_ALERT_CERTIFICATE_EXPIRED", text="certificate has expired"
        ),
    ),
    Profile(
        name="not-yet-valid",
        summary="The server's certificate begins in 2999.",
        culprit="server",
        certificate="not-yet-valid",
        symptoms=_bad_certificate(
            9, alert="SSLV3_ALERT_BAD_CERTIFICATE", text="certificate is not yet valid"
        ),
    ),
    Profile(
        name="wrong-host",
        summary="The server's certificate is for wrong-host.invalid. The code is 62 for host names, 64 for IP addresses.",
        culprit="server",
        certificate="wrong-host",
        symptoms=_bad_certificate(62, 64, alert="SSLV3_ALERT_BAD_CERTIFICATE", text="IP address mismatch"),
    ),
    Profile(
        name="untrusted",
        summary="The server's certificate comes from an authority that the client does not know.",
        culprit="server",
        certificate="untrusted",
        symptoms=_bad_certificate(
            20, alert="TLSV1_ALERT_UNKNOWN_CA", text="unable to get local issuer certificate"
        ),
    ),
    Profile(
        name="self-signed",
        summary="The server's certificate vouches for itself.",
        culprit="server",
        certificate="self-signed",
        symptoms=_bad_certificate(18, alert="TLSV1_ALERT_UNKNOWN_CA", text="signed certificate"),
    ),
    Profile(
        name="incomplete-chain",
        summary="The server does not send the intermediate that links its certificate to the authority.",
        culprit="server",
        certificate="incomplete-chain",
        symptoms=_bad_certificate(
            20, alert="TLSV1_ALERT_UNKNOWN_CA", text="unable to get local issuer certificate"
        ),
    ),
    Profile(
        name="no-client-cert",
        summary="The server insists on a certificate of the client, which has none.",
        culprit="client",
        requires_client_certificate=True,
        symptoms=_bad_client(
            alert="TLSV13_ALERT_CERTIFICATE_REQUIRED",
            alert_tls12="SSLV3_ALERT_HANDSHAKE_FAILURE",
            text="alert certificate required",
            server=Symptom("ssl.SSLError", "PEER_DID_NOT_RETURN_A_CERTIFICATE"),
        ),
    ),
    Profile(
        name="expired-client-cert",
        summary="The server insists on a certificate of the client, whose certificate ended in 2001.",
        culprit="client",
        requires_client_certificate=True,
        client_certificate="expired",
        symptoms=_bad_client(
            alert="SSLV3_ALERT_CERTIFICATE_EXPIRED",
            alert_tls12="SSLV3_ALERT_CERTIFICATE_EXPIRED",
            text="alert certificate expired",
            server=Symptom("ssl.SSLCertVerificationError", "CERTIFICATE_VERIFY_FAILED", (10,)),
        ),
    ),
    Profile(
        name="old-version",
        summary="The server speaks TLS 1.1 and older; a correct client wants 1.2 at least (RFC 8996).",
        culprit="server",
        behaviour="old-version",
        symptoms=Symptoms(
            client=Symptom("ssl.SSLError", "TLSV1_ALERT_PROTOCOL_VERSION"),
            http=Symptom("ssl.SSLError", "TLSV1_ALERT_PROTOCOL_VERSION", when="request"),
            server=Symptom("ssl.SSLError", "UNSUPPORTED_PROTOCOL"),
            # A client that offers "1.2 at most" is answered with 1.1, for which Python brings no ciphers.
            client_tls12=Symptom("ssl.SSLError", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
            server_tls12=Symptom("ssl.SSLError", "NO_SHARED_CIPHER"),
            openssl=OpenSSLSymptom("alert protocol version"),
        ),
    ),
    Profile(
        name="handshake-stall",
        summary="The server takes the client's hello and never answers; a client without a timeout waits for ever.",
        culprit="server",
        behaviour="stall",
        symptoms=Symptoms.of_handshake(
            Symptom("TimeoutError"),
            Symptom("servertest.tls.HandshakeEnded"),
            OpenSSLSymptom("unexpected eof while reading"),
        ),
    ),
    Profile(
        name="handshake-reset",
        summary="The server answers the client's hello with a TCP reset.",
        culprit="server",
        behaviour="reset",
        symptoms=Symptoms.of_handshake(
            Symptom("ConnectionResetError"),
            Symptom("servertest.tls.HandshakeEnded"),
            OpenSSLSymptom("errno="),
        ),
    ),
    Profile(
        name="ragged-eof",
        summary="The server ends the connection without close_notify, as an attacker would who cuts data short.",
        culprit="server",
        behaviour="ragged",
        symptoms=Symptoms(
            # Python hides it from clients that do not say suppress_ragged_eofs=False: they read b"", as at a good end.
            client=Symptom("ssl.SSLEOFError", when="end of data"),
            client_tls12=Symptom("ssl.SSLEOFError", when="end of data"),
            http=Symptom("http.client.IncompleteRead", when="read"),
            openssl=OpenSSLSymptom("unexpected eof while reading"),
        ),
    ),
)

_PROFILES = {profile.name: profile for profile in _ALL}

"""What each side gets to see of a profile, as data that tests can use and that tests of this package prove."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast, final

__all__ = ("OpenSSLSymptom", "Symptom", "Symptoms")


@final
@dataclass(frozen=True, slots=True)
class Symptom:
    """The exception that one side gets.

    Attributes:
        error: Its class, as "module.Name", or "Name" if it is built in.
        reason: The ``reason`` of an `ssl.SSLError`: OpenSSL's own name for it. Empty if there is none.
        verify_codes: What the ``verify_code`` of an `ssl.SSLCertVerificationError` may be: ``X509_V_ERR_...`` numbers.
        when: At which step: "handshake", "first read", "end of data"; with `http.client` "request", "getresponse",
            "read".
    """

    error: str
    reason: str = ""
    verify_codes: tuple[int, ...] = ()
    when: str = "handshake"

    def __str__(self) -> str:
        codes = " or ".join(map(str, self.verify_codes))
        details = ", ".join(filter(None, (self.reason, codes and f"verify_code {codes}")))
        return f"{self.error}({details})" if details else self.error

    @property
    def exception(self) -> type[BaseException]:
        """The class itself, for `pytest.raises`."""
        import pkgutil

        module, _, name = self.error.rpartition(".")
        return cast("type[BaseException]", pkgutil.resolve_name(f"{module or 'builtins'}:{name}"))

    def matches(self, error: BaseException | None) -> bool:
        """Whether an exception is the one that is described here."""
        return (
            isinstance(error, self.exception)
            and self.reason in ("", getattr(error, "reason", None))
            and (not self.verify_codes or getattr(error, "verify_code", None) in self.verify_codes)
        )


@final
@dataclass(frozen=True, slots=True)
class OpenSSLSymptom:
    """What ``openssl s_client -verify_return_error`` prints.

    Attributes:
        text: Words that are in its output.
        verify_code: The number in its line "Verify return code".
    """

    text: str
    verify_code: int = 0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Symptoms:
    """What a profile looks like from each side; None where all is well.

    The names of alerts are those of OpenSSL 3.0; the classes do not depend on the version.

    Attributes:
        client: What a correct client gets from Python's `ssl` with TLS 1.3.
        client_tls12: The same with TLS 1.2.
        http: What it gets from `http.client`.
        server: What the server's handshake gets from Python's `ssl` with TLS 1.3; `Profile.wrap` has it as the cause
            of its `HandshakeEnded`.
        server_tls12: The same with TLS 1.2.
        openssl: What a person sees who tries it by hand.
    """

    openssl: OpenSSLSymptom
    client: Symptom | None = None
    client_tls12: Symptom | None = None
    http: Symptom | None = None
    server: Symptom | None = None
    server_tls12: Symptom | None = None

    @classmethod
    def of_handshake(cls, client: Symptom, server: Symptom, openssl: OpenSSLSymptom) -> Symptoms:
        """A handshake that fails for both, in the same way with every version; http.client does it in its request."""
        return cls(
            client=client,
            client_tls12=client,
            http=replace(client, when="request"),
            server=server,
            server_tls12=server,
            openssl=openssl,
        )

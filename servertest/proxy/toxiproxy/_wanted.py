"""What a proxy is asked for: Toxiproxy's fields, and more."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, fields as fields_of, replace
from typing import Any

from ..._support import UsageError, format_address, parse_address
from .._settings import settings_for
from ._problem import bad_body, missing
from ._reading import Fields

__all__ = ("Wanted", "read_wanted", "server_tls", "updated_wanted", "upstream_tls")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings of a proxy, as they are shown.

    Attributes:
        listen: Where it listens; "" for a free loopback address.
        upstream: Where the server is.
        transport: "stream" or "datagram".
        family: The family of a free address; None for the server's.
        seed: Where random numbers come from; None for the collection's own.
        tls: Ends the client's side of TLS: True, a profile, or a file with certificate and key.
        upstream_tls: Begins TLS towards the server: "system", "any", or a file with certificates to trust.
        server_hostname: The name to check at the server.
        connect_timeout: Seconds to wait for the server.
        idle_timeout: Seconds after which a datagram peer is forgotten.
        max_peers: Datagram peers at a time.
    """

    listen: str
    upstream: str
    transport: str = "stream"
    family: str | None = None
    seed: int | str | None = None
    tls: bool | str | None = None
    upstream_tls: bool | str | None = None
    server_hostname: str | None = None
    connect_timeout: float = 5.0
    idle_timeout: float = 60.0
    max_peers: int = 1024

    @property
    def extras(self) -> dict[str, Any]:
        """What Toxiproxy does not have, as far as it is not as usual."""
        given = {field.name: getattr(self, field.name) for field in fields_of(self)[2:]}
        usual = {field.name: field.default for field in fields_of(self)[2:]}
        return {name: value for name, value in given.items() if value != usual[name]}

    def options(self, seed: int | str, *, expose: bool) -> dict[str, Any]:
        """The arguments for `Proxy.link`.

        Raises:
            UsageError: A file cannot be read, or an address is none.
        """
        return {
            "upstream": self.upstream,
            "seed": seed,
            "listen": parse_address(self.listen) if self.listen else self.family,
            "transport": self.transport,
            "expose": expose,
            "tls": server_tls(self.tls),
            "upstream_tls": upstream_tls(self.upstream_tls),
            "server_hostname": self.server_hostname,
            "connect_timeout": self.connect_timeout,
            "idle_timeout": self.idle_timeout,
            "max_peers": self.max_peers,
        }

    def check(self, *, expose: bool) -> None:
        """Look whether a link could be made, as far as that shows without making it.

        Raises:
            ApiProblem: It could not.
        """
        try:
            settings_for(**self.options(0, expose=expose))
        except (UsageError, UnicodeError) as error:
            raise bad_body(error) from None


_NAMES = tuple(field.name for field in fields_of(Wanted))


def read_wanted(fields: Fields, where: str = "") -> Wanted:
    """The settings of a new proxy.

    Raises:
        ApiProblem: A field is missing or holds what it may not.
    """
    given = _read(fields)
    if not given.get("upstream"):
        raise missing(f"upstream{where}")
    return Wanted(**{"listen": "", **given})


def updated_wanted(wanted: Wanted, fields: Fields) -> Wanted:
    """The settings with what is said about them; what is left out stays.

    Raises:
        ApiProblem: A field holds what it may not.
    """
    return replace(wanted, **_read(fields))


def _read(fields: Fields) -> dict[str, Any]:
    given: dict[str, Any] = {name: fields.text(name) for name in ("listen", "upstream", "server_hostname")}
    given["transport"] = _word(fields, "transport", "stream", "datagram")
    given["family"] = _word(fields, "family", "inet", "inet6", "dual", "unix", "abstract")
    given["seed"] = _either(fields, "seed", int, str)
    given["tls"] = _either(fields, "tls", bool, str)
    given["upstream_tls"] = _either(fields, "upstream_tls", bool, str)
    for name in ("connect_timeout", "idle_timeout"):
        given[name] = fields.number(name, least=0.001, most=86_400)
    given["max_peers"] = fields.number("max_peers", least=1, most=1_000_000)
    given = {name: value for name, value in given.items() if value is not None}
    if "max_peers" in given:
        given["max_peers"] = int(given["max_peers"])
    if given.get("listen"):
        given["listen"] = _usual_form(fields, given["listen"])
    return given


def _word(fields: Fields, name: str, *words: str) -> str | None:
    value = fields.text(name)
    if value is not None and value not in words:
        fields.refuse(name, f"one of {', '.join(words)}", value)
    return value


def _either(fields: Fields, name: str, one: type, other: type) -> Any:
    value = fields.take(name)
    if value is not None and type(value) not in (one, other):
        kinds = {int: "a whole number", bool: "true or false", str: "a text"}
        fields.refuse(name, f"{kinds[one]} or {kinds[other]}", value)
    return value


def _usual_form(fields: Fields, listen: str) -> str:
    """An address as the system will say it: whoever sends back what was shown changes nothing.

    Go's ``:8474``, which names no host, means this machine only.
    """
    text = f"127.0.0.1{listen}" if listen.startswith(":") else listen
    try:
        address = parse_address(text)
    except (UsageError, UnicodeError) as error:
        raise bad_body(f"listen: {error}") from None
    if isinstance(address, tuple) and address[0] == "localhost":
        address = ("127.0.0.1", *address[1:])
    return format_address(address)


def server_tls(wanted: bool | str | None) -> Any:
    """What ends the client's side of TLS.

    Raises:
        UsageError: The file cannot be read, or holds no certificate with its key.
    """
    if not isinstance(wanted, str) or not _is_file(wanted):
        return wanted or None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(wanted)
    except (OSError, ValueError) as error:
        raise UsageError(f"tls: {wanted} cannot be used as certificate and key: {error}") from None
    return context


def upstream_tls(wanted: bool | str | None) -> Any:
    """What begins TLS towards the server: with True or "system" it has to be trusted here, with "any" it may be anybody.

    Raises:
        UsageError: The file cannot be read, or holds no certificate.
    """
    if not wanted:
        return None
    try:
        file = None if wanted in (True, "system", "any") else str(wanted)
        context = ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:
        raise UsageError(
            f'upstream_tls is "system", "any" or a file with certificates, not {wanted}: {error}'
        ) from None
    if wanted == "any":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith(".pem")

"""Sending a crowd: what it goes to, whether it may, and what plays it."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._support import UsageError, format_address, reachable, suggests_keywords
from .._support._processes import have_processes
from ._crowd import Crowd
from ._job import Job
from ._limits import SPARE, raise_descriptor_limit
from ._local import LocalRunner
from ._probe import Probe, Prober
from ._profile import profile as to_profile

if TYPE_CHECKING:
    from typing import TextIO

    from .._support import Address, Transport
    from ._bar import Bar
    from ._crowd import Runner
    from ._profile import IpFamily, Profile, Profiled

__all__ = ("EngineName", "swarm")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

EngineName: TypeAlias = Literal["local", "thread", "execnet", "locust"]
"""What plays the clients: a child process, or in a simulation a thread; a thread of this process; gateways of execnet; Locust."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "thread": (),
    "execnet": ("gateways",),
    "locust": ("workers", "web"),
}
"""The engines, and the options that each has."""


@suggests_keywords
def swarm(
    server: Any,
    profile: Profiled,
    *,
    clients: int | None = None,
    duration: float | None = None,
    per_second: float | None = None,
    seed: int | str | None = None,
    tls: bool | None = None,
    transport: Transport | None = None,
    family: IpFamily | None = None,
    probe: Probe | None = None,
    engine: EngineName = "local",
    options: Mapping[str, Any] | None = None,
    i_own_this_host: bool = False,
    progress: bool | TextIO = False,
    most_seconds: float | None = None,
) -> Crowd:
    """Send a crowd of clients to a server, from a process of their own. Use it with ``with``.

    Args:
        server: A running server, or the address of one.
        profile: Who comes: a behaviour, several, the name of a built-in profile, plain data, a file.
        clients: How many, instead of the profile's number.
        duration: Seconds after which those that are still there are taken away, instead of the profile's.
        per_second: How many begin in a second.
        seed: Where all random numbers come from.
        tls: Whether to speak TLS; with a running server, as it does.
        transport: "stream" or "datagram"; with a running server, as it does.
        family: "inet" or "inet6", for a host that has addresses of both.
        probe: Ask this before, during and after; the results are in ``result.probes``.
        engine: What plays the clients.
        options: What only that engine understands.
        i_own_this_host: Send them to another host than this one.
        progress: Show how it stands in a terminal: on standard error, or in this file. Needs rich.
        most_seconds: The longest that a crowd stays whose ``duration`` was not said here.

    Raises:
        UsageError: The profile makes no sense there, or the address is not on this machine.
    """
    address, found = _target(server)
    made = to_profile(
        profile,
        clients=clients,
        duration=duration,
        per_second=per_second,
        seed=seed,
        tls=found.get("tls") if tls is None else tls,
        transport=transport or found.get("transport"),
        family=family,
    )
    if duration is None and most_seconds is not None and made.duration > most_seconds:
        made = to_profile(made, duration=most_seconds)
    if not i_own_this_host and not _is_here(address):
        raise UsageError(
            f"{format_address(address)} is not on this machine: a swarm may bring it down. If it is yours, say i_own_this_host "
            "(on the command line --i-own-this-host)"
        )
    certificate, hostname, options_of_client = _secrets(server, made, found)
    expect_rude = getattr(server, "expect_rude", None)
    job = Job(made, address, server_hostname=hostname, certificate=certificate, names=expect_rude is not None)
    # The honest client goes to the same address, where there is a choice.
    place = address if made.family is None else job.places()[0][1]
    prober = Prober(place, made.transport, options_of_client)
    notes = (*_room_for(server, made), *_half_truths(job))
    make_bar = _bar(made, sys.stderr if progress is True else progress) if progress else None
    return Crowd(job, _runner(engine, options or {}), prober, probe, notes, expect_rude, make_bar)


def _target(server: Any) -> tuple[Address, dict[str, Any]]:
    """The address of a server, and what is known of it."""
    if isinstance(server, tuple | str | bytes):
        return server, {}
    address, kind = getattr(server, "address", None), getattr(server, "kind", None)
    if address is None:
        raise UsageError(f"a swarm goes to a running server or an address, not to {server!r}")
    return reachable(address), {} if kind is None else {"transport": kind.transport, "tls": bool(kind.tls)}


def _secrets(server: Any, made: Profile, found: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """PEM of the clients' certificate and key, the name they ask for, and what honest clients need beside that."""
    if not made.tls:
        return "", None, {}
    credential = getattr(server, "client_credential", None)
    if credential is None:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return "", None, {"tls": context}
    from ..tls import hostname_for

    name = hostname_for(server.address)
    pem = (credential.private_key + credential.certificate).decode()
    return pem, name, {"tls": credential.client_context(), "server_hostname": name}


def _is_here(address: Address) -> bool:
    if not isinstance(address, tuple):
        return True
    host = str(address[0]).partition("%")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _room_for(server: Any, made: Profile) -> tuple[str, ...]:
    """Let a server in this process accept them all, as far as that is allowed."""
    if made.transport == "datagram" or getattr(server, "server", None) is None:
        return ()
    wanted = made.clients + 4 * SPARE
    allowed = raise_descriptor_limit(wanted)
    if allowed >= wanted:
        return ()
    return (
        f"the server is in this process, which may have {allowed} descriptors: it cannot accept all clients",
    )


def _half_truths(job: Job) -> tuple[str, ...]:
    """What a behaviour is not in full here."""
    vanishes = any(part.behaviour.script(job.profile.transport).vanishes for part in job.profile.parts)
    if not vanishes or (sys.platform.startswith("linux") and isinstance(job.address, tuple)):
        return ()
    return ("half_open is only silent here: the system at the client's side still answers for it",)


def _bar(made: Profile, file: TextIO) -> Callable[[], Bar]:
    from ._bar import Bar

    return lambda: Bar(file, made.name or "swarm", made.duration)


def _runner(engine: str, options: Mapping[str, Any]) -> Callable[[Job], Runner]:
    known = _OPTIONS.get(engine)
    if known is None:
        raise UsageError(f"an engine is {', '.join(map(repr, _OPTIONS))}, not {engine!r}")
    for name in options:
        if name not in known:
            has = f"the options {', '.join(known)}" if known else "no options"
            raise UsageError(f"the engine {engine!r} has {has}, not {name!r}")
    if engine in ("local", "thread"):
        if engine == "local" and have_processes():
            return LocalRunner
        from ._thread import ThreadRunner

        return ThreadRunner
    if engine == "execnet":
        from ._execnet import ExecnetRunner

        return lambda job: ExecnetRunner(job, **options)
    from ._locust import LocustRunner

    return lambda job: LocustRunner(job, **options)

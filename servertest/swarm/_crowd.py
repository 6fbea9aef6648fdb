"""A swarm at work: how it stands, what an honest client sees, and what became of it."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypeAlias

from .._support import DeadlineExceeded, UsageError, format_address
from ._job import Job
from ._limits import SPARE, raise_descriptor_limit
from ._local import LocalRunner, SwarmFailed
from ._probe import Probe, Probed, Prober
from ._profile import profile as to_profile
from ._result import Result, result_of

if TYPE_CHECKING:
    from .._support import Address, Transport
    from ._profile import Profile, Profiled

__all__ = ("Crowd", "EngineName", "Progress", "swarm")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

EngineName: TypeAlias = Literal["local", "execnet", "locust"]
"""What plays the clients: a child process; gateways of execnet; Locust."""

_GRACE = 15.0
"""Seconds beyond its time that an engine may take to begin and to tell its results."""

_REACHABLE = {"::": "::1", "0.0.0.0": "127.0.0.1"}  # noqa: S104 - looked up, not bound


class Runner(Protocol):
    """The near side of an engine."""

    name: str

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What the engine has said; waits for something, at most so long."""

    def stop(self) -> None:
        """Have it end now."""

    def close(self) -> None:
        """Give everything back."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How a swarm stands.

    Attributes:
        seconds: Since it began.
        waiting: Clients that have not begun.
        open: Connections that are there, or under way.
        connections: Connections that were begun so far.
        counts: How those ended that have.
    """

    seconds: float = 0.0
    waiting: int = 0
    open: int = 0
    connections: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def cut_off_by_server(self) -> int:
        """Connections that the server has cut off so far."""
        return self.counts.get("closed", 0) + self.counts.get("reset", 0)


class Crowd:
    """A swarm, from its first client to its last. As a context manager it begins with the block: inside, all clients have begun, and are
    connected or turned away. At the end of the block it is waited for, no longer than its ``duration``; if the block raises, it is
    stopped.

    Attributes:
        profile: Who comes.
        address: Where to.
    """

    def __init__(
        self,
        job: Job,
        make_runner: Callable[[Job], Runner],
        prober: Prober,
        probe: Probe | None,
        notes: tuple[str, ...] = (),
        expect_rude: Callable[[Iterator[Any]], object] | None = None,
    ) -> None:
        self.profile = job.profile
        self.address = job.address
        self._job = job
        self._make_runner = make_runner
        self._prober = prober
        self._probe = probe
        self._notes = list(notes)
        self._expect_rude = expect_rude
        self._runner: Runner | None = None
        self._started: float | None = None
        self._begun = False
        self._reports: list[dict[str, Any]] = []
        self._probes: list[Probed] = []
        self._progress = Progress(waiting=job.profile.clients)
        self._result: Result | None = None

    def __repr__(self) -> str:
        state = "over" if self._result else "not begun" if self._started is None else "at work"
        return f"<Crowd of {self.profile.clients} clients of {format_address(self.address)}, {state}>"

    # -- its life

    def start(self) -> Self:
        """Begin. Does not wait for the clients: `wait_begun` does.

        Raises:
            UsageError: It has begun already, or cannot be: too few descriptors, for example.
            SwarmFailed: The engine does not work.
        """
        if self._runner is not None or self._result is not None:
            raise UsageError("this swarm has begun already: make another one")
        before = 0.0
        if self._probe is not None:
            self._probes.append(self._ask(self._probe))
            before = time.monotonic()
        self._runner = self._make_runner(self._job)
        try:
            self._until(lambda: self._started is not None, _GRACE, "the engine to begin")
        except BaseException:
            self._close()
            raise
        if self._probe is not None and self._started is not None:
            since = self._started - before
            self._probes[0] = replace(self._probes[0], at=-since - self._probes[0].latency)
            self._prober.begin(self._probe, self._started)
        return self

    def wait_begun(self) -> None:
        """Wait until all clients have begun, and are connected or turned away, or the time is up.

        Raises:
            SwarmFailed: The engine has failed.
        """
        profile = self.profile
        self._until(
            lambda: self._begun or self._result is not None,
            min(profile.ramp + profile.connect_timeout, profile.duration) + _GRACE,
            "all clients to begin",
        )

    def follow(self) -> Iterator[Progress]:
        """How it stands, several times a second, until it is over."""
        while self._result is None:
            self._take(0.5)
            yield self._progress

    def wait(self) -> Result:
        """Wait until it is over: until all clients have ended, or the time is up.

        Raises:
            SwarmFailed: The engine has failed.
        """
        left = self.profile.duration - (0.0 if self._started is None else time.monotonic() - self._started)
        self._until(lambda: self._result is not None, max(left, 0.0) + _GRACE, "the swarm to end")
        return self.result

    def stop(self) -> Result:
        """End it now; the result is kept. Twice is once."""
        if self._runner is not None:
            self._runner.stop()
            self._until(lambda: self._result is not None, _GRACE, "the swarm to stop")
        return self.result

    def close(self) -> None:
        """End it by force, if it is not over; there is no result then. Twice is once."""
        self._close()

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_begun()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
            elif self._result is None:
                self.stop()
        except SwarmFailed as failure:
            if error is None:
                raise
            error.add_note(f"SwarmFailed: {failure}")
        finally:
            self._close()

    # -- what it tells

    @property
    def progress(self) -> Progress:
        """How it stands."""
        if self._result is None and self._runner is not None:
            self._take(0.0)
        return self._progress

    @property
    def begun(self) -> bool:
        """Whether its first client has begun."""
        return self._started is not None

    @property
    def last_probe(self) -> Probed | None:
        """The newest of the repeated probes, if there is one."""
        return next(reversed(self._prober.results), None)

    @property
    def over(self) -> bool:
        """Whether it has ended, and there is a result."""
        return self._result is not None

    @property
    def result(self) -> Result:
        """What became of it.

        Raises:
            UsageError: It is not over.
        """
        if self._result is None:
            raise UsageError("the swarm is not over: ask behind the with block, or call wait() or stop()")
        return self._result

    def probe(
        self,
        request: bytes = b"",
        reply: bytes | re.Pattern[bytes] | None = None,
        *,
        timeout: float = 5.0,
    ) -> Probed:
        """Whether an honest client is served now.

        Args:
            request: What it sends.
            reply: What has to come, as bytes or an expression; None for anything at all.
            timeout: Seconds that all of it may take.
        """
        made = self._ask(Probe(request, reply, timeout))
        self._probes.append(made)
        return made

    def _ask(self, probe: Probe) -> Probed:
        return self._prober.probe(probe, time.monotonic() if self._started is None else self._started)

    # -- in detail

    def _until(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        until = time.monotonic() + seconds
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                self._close()
                raise DeadlineExceeded(what, seconds)
            if self._runner is None:
                raise SwarmFailed("the swarm has ended without a result")
            self._take(left)

    def _take(self, seconds: float) -> None:
        assert self._runner is not None
        for report in self._runner.reports(seconds):
            self._hear(report)

    def _hear(self, report: dict[str, Any]) -> None:
        kind = report["kind"]
        if kind == "started":
            self._started = report.get("started", time.monotonic())
        elif kind == "progress":
            names = ("seconds", "waiting", "open", "connections", "counts")
            self._progress = Progress(**{name: report[name] for name in names})
            self._begun = self._begun or report["begun"]
        elif kind == "note":
            self._notes.append(report["note"])
        elif kind == "error":
            self._close()
            raise (UsageError if report["type"] == "UsageError" else SwarmFailed)(report["message"])
        elif kind == "results":
            self._over(report["results"])
        elif kind == "result":
            self._over([report])

    def _over(self, reports: list[dict[str, Any]]) -> None:
        self._prober.end()
        assert self._runner is not None
        name = self._runner.name
        self._close()
        if self._expect_rude is not None:
            self._expect_rude(_names(reports))
        if self._probe is not None:
            self._probes.append(self._ask(self._probe))
        probes = sorted([*self._probes, *self._prober.results], key=lambda probe: probe.at)
        self._result = result_of(self._job, name, reports, probes=probes, notes=self._notes)

    def _close(self) -> None:
        self._prober.end()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


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
    probe: Probe | None = None,
    engine: EngineName = "local",
    options: Mapping[str, Any] | None = None,
    i_own_this_host: bool = False,
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
        probe: Ask this before, during and after; the results are in ``result.probes``.
        engine: What plays the clients.
        options: What only that engine understands.
        i_own_this_host: Send them to another host than this one.
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
    prober = Prober(address, made.transport, options_of_client)
    runner = _runner(engine, options or {})
    return Crowd(job, runner, prober, probe, _room_for(server, made), expect_rude)


def _target(server: Any) -> tuple[Address, dict[str, Any]]:
    """The address of a server, and what is known of it."""
    if isinstance(server, tuple | str | bytes):
        return server, {}
    address, kind = getattr(server, "address", None), getattr(server, "kind", None)
    if address is None:
        raise UsageError(f"a swarm goes to a running server or an address, not to {server!r}")
    if isinstance(address, tuple):
        address = (_REACHABLE.get(address[0], address[0]), *address[1:])
    return address, {} if kind is None else {"transport": kind.transport, "tls": bool(kind.tls)}


def _names(reports: list[dict[str, Any]]) -> Iterator[Any]:
    """The clients' own addresses, as sockets have them."""
    for report in reports:
        for host, ports in report.get("names", {}).items():
            for port in ports:
                yield (host, port, 0, 0) if ":" in host else (host, port)


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


def _runner(engine: str, options: Mapping[str, Any]) -> Callable[[Job], Runner]:
    if engine == "local":
        if options:
            raise UsageError(f"the engine 'local' has no options, such as {next(iter(options))!r}")
        return LocalRunner
    if engine == "execnet":
        from ._execnet import ExecnetRunner

        return lambda job: ExecnetRunner(job, **options)
    if engine == "locust":
        from ._locust import LocustRunner

        return lambda job: LocustRunner(job, **options)
    raise UsageError(f"an engine is 'local', 'execnet' or 'locust', not {engine!r}")

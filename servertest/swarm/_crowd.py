"""A swarm at work: how it stands, what an honest client sees, and what became of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from .._support import DeadlineExceeded, UsageError, format_address
from ._local import SwarmFailed
from ._probe import Probe, Probed, Prober
from ._progress import Progress
from ._result import Result, result_of

if TYPE_CHECKING:
    from ._bar import Bar
    from ._job import Job

__all__ = ("Crowd",)

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

_GRACE = 15.0
"""Seconds beyond its time that an engine may take to tell its results."""

_STARTING = 45.0
"""Seconds in which an engine has to begin: Locust is large, and the machine may be busy."""


class Runner(Protocol):
    """The near side of an engine."""

    name: str

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What the engine has said; waits for something, at most so long."""

    def stop(self) -> None:
        """Have it end now."""

    def close(self) -> None:
        """Give everything back."""


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
        make_bar: Callable[[], Bar] | None = None,
    ) -> None:
        self.profile = job.profile
        self.address = job.address
        self._job = job
        self._make_runner = make_runner
        self._prober = prober
        self._probe = probe
        self._notes = list(notes)
        self._expect_rude = expect_rude
        self._make_bar = make_bar
        self._bar: Bar | None = None
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
            if self._make_bar is not None:
                self._bar = self._make_bar()
            self._until(lambda: self._started is not None, _STARTING, "the engine to begin")
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
            self._require_begun()
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
            self._take(left)

    def _require_begun(self) -> None:
        if self._started is None:
            raise UsageError("the swarm has not begun: use it with a with block, or call start()")

    def _take(self, seconds: float) -> None:
        if self._runner is None:
            self._require_begun()
            raise SwarmFailed("the swarm has ended without a result")
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
            if self._bar is not None:
                self._bar.update(self._progress, self.last_probe)
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
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.end()
        self._prober.end()
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()


def _names(reports: list[dict[str, Any]]) -> Iterator[Any]:
    """The clients' own addresses, as sockets have them."""
    for report in reports:
        for host, ports in report.get("names", {}).items():
            for port in ports:
                yield (host, port, 0, 0) if ":" in host else (host, port)

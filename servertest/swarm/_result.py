"""What became of a swarm, as data."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import UsageError, format_address
from ..clients.behaviours import HOWS, Outcome
from ._ledger import BINS, STATES

if TYPE_CHECKING:
    from ..clients.behaviours import How
    from ._job import Job
    from ._probe import Probed
    from ._profile import Profile

__all__ = ("Moment", "Result", "require_writable", "result_of")

_POINTS = (50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class Moment:
    """How many clients were in which state at a time.

    Attributes:
        at: Seconds since the swarm began.
        states: A number for each of `STATES`.
    """

    at: float
    states: tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What became of a swarm. Connections are counted; of a client that came several times the columns hold
    the last one, and the bytes of all.

    Attributes:
        profile: Who came.
        address: Where to.
        engine: What played the clients.
        seconds: How long it took.
        connections: How many connections were begun.
        connected: How many of them the server's system took.
        counts: For each part of the profile, how its connections ended.
        columns: For each client in turn: role, how, begun, connected, first_byte, ended (seconds since the swarm began, or None),
            late, sent, received.
        changes: For each of `STATES`, by how many the clients in it change in each five-hundredth of the profile's duration.
        errors: What the system said, and how often.
        probes: What became of the probes.
        notes: What else there is to say, such as limits that were met.
        stopped: Whether it was stopped before its time.
    """

    profile: Profile
    address: str
    engine: str
    seconds: float
    connections: int
    connected: int
    counts: Sequence[Mapping[How, int]]
    columns: Mapping[str, Sequence[Any]]
    changes: Sequence[Sequence[int]]
    errors: Mapping[str, int]
    probes: tuple[Probed, ...] = ()
    notes: tuple[str, ...] = ()
    stopped: bool = False

    def __repr__(self) -> str:
        return f"<Result of {self.clients} clients: {self.sentence}>"

    def __str__(self) -> str:
        from ._table import as_text

        return as_text(self)

    # -- numbers

    @property
    def clients(self) -> int:
        """How many clients there were."""
        return self.profile.clients

    def count(self, *hows: How) -> int:
        """How many connections ended so."""
        return sum(counts.get(how, 0) for counts in self.counts for how in hows)

    @property
    def refused(self) -> int:
        """Connections that were refused."""
        return self.count("refused")

    @property
    def reset(self) -> int:
        """Connections that the server cut off with a RST."""
        return self.count("reset")

    @property
    def cut_off_by_server(self) -> int:
        """Connections that the server ended before their clients were done, with FIN or RST."""
        return self.count("closed", "reset")

    @property
    def timed_out(self) -> int:
        """Connections that were not made in time."""
        return self.count("timed_out")

    @property
    def failed(self) -> int:
        """Connections that failed in another way; `errors` says how."""
        return self.count("failed")

    @property
    def finished(self) -> int:
        """Connections whose clients did all that they wanted."""
        return self.count("finished")

    @property
    def held(self) -> int:
        """Connections that were still there at the end."""
        return self.count("held")

    @property
    def never_began(self) -> int:
        """Clients whose turn had not come when it was over."""
        return sum(how == HOWS.index("waiting") for how in self.columns["how"])

    @property
    def sent(self) -> int:
        """Bytes that were sent."""
        return sum(self.columns["sent"])

    @property
    def received(self) -> int:
        """Bytes that were received."""
        return sum(self.columns["received"])

    @property
    def sentence(self) -> str:
        """The counts that are not 0, in words."""
        words = {"held": "held to the end", "closed": "cut off by the server", "reset": "reset by the server"}
        told = [
            f"{self.count(how):,} {words.get(how, how.replace('_', ' '))}" for how in HOWS if self.count(how)
        ]
        if self.never_began:
            told.append(f"{self.never_began:,} did not begin")
        return ", ".join(told)

    def outcome(self, client: int) -> Outcome:
        """What became of one client: of its last connection, with the bytes of all and the worst delay of any.

        Args:
            client: Its number, from 1.
        """
        if not 1 <= client <= self.clients:
            raise UsageError(f"clients are numbered from 1 to {self.clients}, not {client!r}")
        row = {name: column[client - 1] for name, column in self.columns.items()}
        begun = row["begun"] or 0.0
        connected, first_byte, ended = (
            None if row[name] is None else row[name] - begun for name in ("connected", "first_byte", "ended")
        )
        how = HOWS[row["how"]]
        return Outcome(how, connected, first_byte, ended, row["sent"], row["received"], row["late"])

    # -- times

    def times(self, what: str) -> list[float]:
        """Times of all clients that have one, in order, in seconds.

        Args:
            what: "connect" (until connected), "first_byte" (from then until the first byte), "held" (from then until the
                end), "cut_off" (likewise, where the server ended it), "late" (behind the client's own timetable).

        Raises:
            UsageError: There are no such times.
        """
        columns = self.columns
        if what == "late":
            return sorted(columns["late"])
        pairs = {
            "connect": ("begun", "connected"),
            "first_byte": ("connected", "first_byte"),
            "held": ("connected", "ended"),
            "cut_off": ("connected", "ended"),
        }
        if what not in pairs:
            raise UsageError(f"times are late, {', '.join(pairs)}, not {what!r}")
        since, until = (columns[name] for name in pairs[what])
        cut = {HOWS.index("closed"), HOWS.index("reset")}
        return sorted(
            end - start
            for start, end, how in zip(since, until, columns["how"], strict=True)
            if start is not None and end is not None and (what != "cut_off" or how in cut)
        )

    def percentiles(self, what: str, points: Sequence[float] = _POINTS) -> dict[float, float]:
        """The time within which so many percent of the clients were; nothing if none has such a time.

        Args:
            what: As for `times`.
            points: Percents, from 0 to 100.
        """
        times = self.times(what)
        if not times:
            return {}
        last = len(times) - 1
        return {point: times[min(last, max(0, round(last * point / 100)))] for point in points}

    def timeline(self) -> list[Moment]:
        """How many clients were in which state, from the beginning to the end."""
        now = [0] * len(STATES)
        moments = []
        for part in range(BINS + 1):
            now = [before + change[part] for before, change in zip(now, self.changes, strict=True)]
            at = self.profile.duration * part / BINS
            moments.append(Moment(min(at, self.seconds), tuple(now)))
            if at >= self.seconds:
                break
        return moments

    # -- as files

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        times = ("connect", "first_byte", "held", "cut_off", "late")
        return {
            "profile": self.profile.as_dict(),
            "address": self.address,
            "engine": self.engine,
            "seconds": self.seconds,
            "clients": self.clients,
            "connections": self.connections,
            "connected": self.connected,
            "never_began": self.never_began,
            **{how: self.count(how) for how in HOWS[2:]},
            "cut_off_by_server": self.cut_off_by_server,
            "sent": self.sent,
            "received": self.received,
            "percentiles": {
                what: {f"{point:g}": round(value, 6) for point, value in self.percentiles(what).items()}
                for what in times
            },
            "behaviours": [
                {"behaviour": part.behaviour.text, **counts}
                for part, counts in zip(self.profile.parts, self.counts, strict=True)
            ],
            "probes": [probe.as_dict() for probe in self.probes],
            "errors": dict(self.errors),
            "notes": list(self.notes),
            "stopped": self.stopped,
            "timeline": [[round(each.at, 4), *each.states] for each in self.timeline()],
            "columns": {name: list(column) for name, column in self.columns.items()},
        }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file: ``.json``, ``.html`` (table and chart), ``.svg`` (the chart), or ``.txt`` (the table).

        Raises:
            UsageError: The name ends differently, or the file cannot be written.
        """
        path = Path(path)
        _require_form(path)
        try:
            path.write_text(self._file(path.suffix), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None

    def _file(self, suffix: str) -> str:
        from ._chart import as_html, as_svg

        if suffix == ".json":
            return json.dumps(self.as_dict(), indent=None) + "\n"
        if suffix == ".svg":
            return as_svg(self)
        return as_html(self) if suffix == ".html" else f"{self}\n"


def require_writable(path: str | os.PathLike[str]) -> None:
    """See to it, before a swarm begins, that its result can be written into a file.

    Raises:
        UsageError: The name ends in none of the forms that there are, or there is no place for the file.
    """
    path = Path(path)
    _require_form(path)
    if not os.access(path if path.exists() else path.parent, os.W_OK) or path.is_dir():
        raise UsageError(f"{path} cannot be written: say where there is a directory that may be written into")


def _require_form(path: Path) -> None:
    if path.suffix not in (".json", ".html", ".svg", ".txt"):
        raise UsageError(f"a result is written as .json, .html, .svg or .txt, not as {path.name!r}")


def result_of(
    job: Job,
    engine: str,
    reports: Sequence[dict[str, Any]],
    *,
    probes: Sequence[Probed] = (),
    notes: Sequence[str] = (),
) -> Result:
    """One result from those of all engines that had a part in it.

    Args:
        job: What was asked for.
        engine: What played it.
        reports: What each of them has written.
        probes: What became of the probes.
        notes: What else there is to say.
    """
    profile = job.profile
    names = ("role", "how", "begun", "connected", "first_byte", "ended", "late", "sent", "received")
    zeros = {"role": 0, "how": 0, "late": 0.0, "sent": 0, "received": 0}
    columns: dict[str, list[Any]] = {name: [zeros.get(name)] * profile.clients for name in names}
    changes = [[0] * (BINS + 1) for _ in STATES]
    counts: list[Counter[Any]] = [Counter() for _ in profile.parts]
    errors: Counter[str] = Counter()
    for report in reports:
        for name in names:
            columns[name][report["first"] - 1 :: report["step"]] = report["columns"][name]
        for part, how, count in report["counts"]:
            counts[part][how] += count
        errors.update(report["errors"])
        changes = [
            list(map(sum, zip(ours, theirs, strict=True)))
            for ours, theirs in zip(changes, report["changes"], strict=True)
        ]
    sources = max((report.get("sources", 1) for report in reports), default=1)
    if sources > 1:
        notes = [*notes, f"the ports of one address did not suffice: clients came from {sources}"]
    return Result(
        profile,
        format_address(job.address),
        engine,
        max((report["seconds"] for report in reports), default=0.0),
        sum(report["connections"] for report in reports),
        sum(report["connected"] for report in reports),
        counts,
        columns,
        changes,
        errors,
        tuple(probes),
        tuple(notes),
        any(report["stopped"] for report in reports),
    )

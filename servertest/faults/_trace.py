"""What was decided: which fault hit which connection, when, and how."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from .._support import UsageError

if TYPE_CHECKING:
    from ..transcript import Direction

__all__ = ("Decision", "Trace")

_Where: TypeAlias = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that a fault did.

    What it says of a stream is bound to places in it, never to chunks: it is the same in every run with the same seed,
    but for the time.

    Attributes:
        time: When, on the clock that drives the line.
        connection: On which connection, from 1; for datagrams the peer's number.
        direction: On which way.
        fault: The name of the fault in its plan, such as ``latency`` or ``latency#2``.
        what: What it did, in words.
    """

    time: float
    connection: int
    direction: Direction
    fault: str
    what: str

    def __str__(self) -> str:
        return f"{self.time:.6f} connection {self.connection} {self.direction} {self.fault}: {self.what}"


class Trace:
    """A bounded list of decisions, with counters that go on when it is full. Threads may add to it.

    It can be called with a decision, and so be given wherever decisions are to be told to somebody.

    Args:
        limit: How many decisions are kept: the first ones, since a run that differs differs from there on.
        seed: The seed of the run, if it is known.

    Attributes:
        seed: The same.
    """

    def __init__(self, limit: int = 10_000, *, seed: int | str | None = None) -> None:
        if limit < 0:
            raise UsageError(f"Trace: limit is how many decisions are kept, from 0 on, not {limit!r}")
        self.seed = seed
        self._limit = limit
        self._lock = threading.Lock()
        self._decisions: list[Decision] = []
        self._counts: Counter[str] = Counter()

    def __call__(self, decision: Decision) -> None:
        self.add(decision)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.decisions)

    def __len__(self) -> int:
        return len(self._decisions)

    def __repr__(self) -> str:
        return f"<Trace of {sum(self.counts.values())} decisions: {dict(self.counts)}>"

    def add(self, decision: Decision) -> None:
        """Write a decision down."""
        with self._lock:
            self._counts[decision.fault] += 1
            if len(self._decisions) < self._limit:
                self._decisions.append(decision)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Those that were kept, in the order in which they came."""
        with self._lock:
            return tuple(self._decisions)

    @property
    def counts(self) -> Counter[str]:
        """How many decisions each fault has made, by name, those that were not kept included."""
        with self._lock:
            return self._counts.copy()

    @property
    def missing(self) -> int:
        """How many decisions were counted, but not kept."""
        with self._lock:
            return self._counts.total() - len(self._decisions)

    def difference(self, other: Trace) -> str | None:
        """Where another run parts from this one: in words, with the decisions around it; None if both decide the same.

        Times may differ, and what connections do at the same time may happen in another order; what each fault decides on
        each direction of each connection may not.
        """
        wanted, got = self._stories(), other._stories()
        for place in sorted(wanted.keys() | got.keys()):
            one, two = wanted.get(place, []), got.get(place, [])
            for number, (left, right) in enumerate(zip_longest(one, two)):
                if left != right:
                    return _shown(place, number, one, left, right)
        if self.counts != other.counts:
            return f"first {dict(self.counts)}, then {dict(other.counts)} decisions in all"
        return None

    def _stories(self) -> dict[_Where, list[str]]:
        stories: dict[_Where, list[str]] = {}
        for each in self.decisions:
            stories.setdefault((each.connection, each.direction, each.fault), []).append(each.what)
        return stories

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._decisions.clear()
            self._counts.clear()

    def dump(self, path: str | Path) -> None:
        """Write the decisions to a file, one JSON object a line; the last line has counts and seed."""
        Path(path).write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")

    def lines(self) -> Iterator[str]:
        """The same lines, for files that hold more."""
        for decision in self.decisions:
            yield json.dumps(asdict(decision))
        yield json.dumps({"counts": self.counts, "limit": self._limit, "seed": self.seed})

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """What `dump` has written.

        Raises:
            UsageError: The file holds something else; the message names the line.
        """
        return cls.read(Path(path).read_text(encoding="utf-8").splitlines(), path)

    @classmethod
    def read(cls, lines: Iterable[str], source: object = "trace") -> Trace:
        """What `lines` has given.

        Args:
            lines: The lines.
            source: Where they are from, for messages.

        Raises:
            UsageError: It is something else; the message names the source and the line.
        """
        trace = cls()
        for number, line in enumerate(lines, 1):
            try:
                trace._take(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UsageError(f"{source}, line {number}: this is no decision: {error}") from None
        return trace

    def _take(self, record: dict[str, Any]) -> None:
        if "counts" in record:
            self._counts = Counter(record["counts"])
            self._limit = int(record["limit"])
            self.seed = record["seed"]
        else:
            self.add(Decision(**record))


def _shown(where: _Where, number: int, before: list[str], left: str | None, right: str | None) -> str:
    connection, direction, fault = where
    lines = [f"decision {number + 1} of {fault} on connection {connection} {direction}"]
    lines += [f"    {what}" for what in before[max(0, number - 2) : number]]
    lines += [f"  - {left or '(nothing more)'}", f"  + {right or '(nothing more)'}"]
    return "\n".join(lines)

"""What repeats a test: seeds made of the run's, and files from which the decisions of a failed test are replayed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import UsageError

if TYPE_CHECKING:
    import pytest

    from ..faults import Faults, History, Plan

__all__ = (
    "PROPERTY",
    "Ledger",
    "Replay",
    "Replaying",
    "Turn",
    "Turns",
    "again",
    "hypothesis_control",
    "replay_path",
    "save",
)

#: Of what one test had, how much is kept.
_KEPT = 200

#: Where a report carries how well its test was repeated.
PROPERTY = "servertest_replay"

_DRAWN = " of the last example"


@dataclass(slots=True)
class Ledger:
    """What had faults in one test, by the names under which a replay finds it again.

    Attributes:
        things: Links and servers: whatever has `histories`.
        remarks: Where a replay had to depart from what the test asked for.
        drawn: Whether Hypothesis drew examples.
    """

    things: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    drawn: bool = False

    def add(self, name: str, thing: Any) -> None:
        """Keep it, instead of what had the name before."""
        self.things[name] = thing
        if len(self.things) > _KEPT:
            del self.things[next(iter(self.things))]

    def histories(self) -> list[History]:
        """All of them, named."""
        return [
            replace(
                each, who=name if each.who in ("link", "server", "mock server") else f"{name}, {each.who}"
            )
            for name, thing in self.things.items()
            for each in thing.histories
        ]

    def forget_examples(self, fixture: str) -> None:
        """Hypothesis begins another example."""
        for name in [name for name in self.things if name.startswith(fixture) and name.endswith(_DRAWN)]:
            del self.things[name]


class Turns:
    """Counts what one fixture makes, and gives each its seed.

    The same run seed and test give the same seeds, whatever other tests there are. In examples of Hypothesis, which have to
    repeat themselves, counting begins anew with each example.
    """

    def __init__(
        self, fixture: str, seed: int, ledger: Callable[[], Ledger | None], replay: Replay | None
    ) -> None:
        self._fixture = fixture
        self._seed = seed
        self._ledger = ledger
        self._replay = replay
        self._count = 0
        self._in_example: list[Turn] = []

    def take(self, end: Callable[[Any], object]) -> Turn:
        """The next one.

        Args:
            end: Ends it, when the example of Hypothesis is over in which it is made.
        """
        ledger = self._ledger() or Ledger()
        control = hypothesis_control()
        if control is None:
            self._count += 1
            name = f"{self._fixture} {self._count}"
            saved = self._replay.histories.get(name) if self._replay else None
            return Turn(name, self._seed_of(name), ledger, saved)
        ledger.drawn = True
        if not self._in_example:
            ledger.forget_examples(self._fixture)
        turn = Turn(f"{self._fixture} {len(self._in_example) + 1}{_DRAWN}", 0, ledger)
        turn.seed = self._seed_of(turn.name)
        self._in_example.append(turn)
        control.cleanup(lambda: self._leave(turn, end))
        return turn

    def _seed_of(self, name: str) -> int:
        # Short enough to be read aloud.
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _leave(self, turn: Turn, end: Callable[[Any], object]) -> None:
        self._in_example.remove(turn)
        if turn.thing is not None:
            end(turn.thing)


@dataclass(slots=True, eq=False)
class Turn:
    """One link or server that is about to be made.

    Attributes:
        name: What a replay calls it.
        seed: Its seed, if the test gives none.
        ledger: Where it is written down.
        saved: What it had in the run that is replayed; None if this is no replay.
        thing: What was made.
    """

    name: str
    seed: int
    ledger: Ledger
    saved: tuple[History, bool] | None = None
    thing: Any = None

    def settle(self, faults: Faults, seed: int | str | None) -> tuple[Faults, int | str]:
        """The faults and the seed that it is to have: those of the replay, or those that the test asks for."""
        if self.saved is None:
            return faults, self.seed if seed is None else seed
        from ..faults import plan

        saved, written = self.saved
        if not written:
            return faults, saved.seed
        if _text(plan(faults)) != saved.faults.text:
            self.ledger.remarks.append(
                f"{self.name}: the test asks for {plan(faults)!r} now, and has {saved.faults!r} as it had then"
            )
        return saved.faults if saved.faults or faults is not None else None, saved.seed

    def given_to(self, thing: Any) -> None:
        """This is what was made."""
        self.thing = thing
        self.ledger.add(self.name, thing)


def _text(faults: Plan) -> str | None:
    try:
        return faults.text
    except UsageError:
        return None


def hypothesis_control() -> Any:
    """Hypothesis' module of control, if it is drawing an example just now."""
    control = sys.modules.get("hypothesis.control")
    return control if control is not None and control.currently_in_test_context() else None


class Replay:
    """What a file holds of a failed test.

    Attributes:
        path: The file.
        test: The test's name.
        seed: The run's seed.
        histories: What had faults, by name; and whether its faults could be written down.
    """

    def __init__(self, path: Path) -> None:
        from ..faults import History

        self.path = path
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        try:
            head = json.loads(lines[0])
            self.test, self.seed = str(head["test"]), int(head["seed"])
        except (ValueError, TypeError, KeyError, IndexError):
            raise UsageError(
                f"{path} is no replay: those are written when a test fails, and the report names them"
            ) from None
        self.histories: dict[str, tuple[History, bool]] = {}
        for group in _groups(lines[1:]):
            history, written = History.read(group, path)
            self.histories[history.who] = history, written

    def compare(self, ledger: Ledger) -> str:
        """How the decisions of this run differ from the file's, in words."""
        now = {history.who: history for history in ledger.histories()}
        lines = list(ledger.remarks)
        same = 0
        for name, (then, _) in self.histories.items():
            found = now.get(name)
            if found is None:
                lines.append(f"{name}: there is none now")
            elif (difference := then.trace.difference(found.trace)) is not None:
                lines.append(f"{name}: other decisions, from here on (- then, + now):\n{difference}")
            else:
                same += then.trace.counts.total()
        lines += [f"{name}: there was none then" for name in now if name not in self.histories]
        return "\n".join(lines) or f"the same {same} decisions as then"


class Replaying:
    """A plugin for the run of a replay: it runs the one test, and says how well it was repeated."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._outcome = f"{replay.test} did not run"

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what is not to be repeated.

        Raises:
            pytest.UsageError: The test is not there.
        """
        import pytest

        replay = self._replay
        wanted = [item for item in items if item.nodeid == replay.test]
        if not wanted:
            raise pytest.UsageError(
                f"--servertest-replay: {replay.path} is of {replay.test}, which is not among the tests that were collected"
            )
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember how it went, wherever it ran."""
        for name, text in report.user_properties:
            if name == PROPERTY:
                self._outcome = str(text)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say it."""
        terminalreporter.section("servertest replay")
        terminalreporter.write_line(self._outcome)


def _groups(lines: Iterable[str]) -> list[list[str]]:
    groups: list[list[str]] = []
    for line in lines:
        if line.startswith('{"who":') or not groups:
            groups.append([])
        groups[-1].append(line)
    return groups


def replay_path(config: pytest.Config, test: str, directory: str) -> Path:
    """Where a failed test is written down: pytest's cache, or a temporary directory if there is none."""
    name = re.sub(r"\W+", "-", test.rpartition("::")[2]).strip("-")[:60]
    return _directory(config, directory) / f"{name}-{hashlib.sha256(test.encode()).hexdigest()[:8]}.jsonl"


_temporary: dict[int, Path] = {}


def _directory(config: pytest.Config, wanted: str) -> Path:
    if wanted:
        path = config.rootpath / wanted
        path.mkdir(parents=True, exist_ok=True)
        return path
    cache: Any = getattr(config, "cache", None)
    if cache is not None:
        try:
            made: Path = cache.mkdir("servertest-replays")
        except OSError:
            pass  # a checkout that cannot be written to
        else:
            return made
    if id(config) not in _temporary:
        _temporary[id(config)] = Path(tempfile.mkdtemp(prefix="servertest-replays-"))
    return _temporary[id(config)]


def save(path: Path, test: str, seed: int, ledger: Ledger) -> None:
    """Write down what repeats a test.

    Raises:
        OSError: It cannot be written.
    """
    lines = [json.dumps({"test": test, "seed": seed})]
    for history in ledger.histories():
        lines += history.lines()
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def again(config: pytest.Config, path: Path, item: pytest.Item) -> str:
    """The command that replays it, from where pytest was started."""
    here = config.invocation_params.dir
    where, _, rest = item.nodeid.partition("::")
    test = f"{_from(here, config.rootpath / where)}::{rest}" if rest else _from(here, config.rootpath / where)
    return f"pytest {shlex.quote(test)} --servertest-replay={shlex.quote(_from(here, path))}"


def _from(here: Path, path: Path) -> str:
    try:
        relative = os.path.relpath(path, here)
    except ValueError:
        return str(path)  # on another drive
    return str(path) if relative.count("..") > 2 else relative

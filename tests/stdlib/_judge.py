"""Run a test module of the interpreter with a stand-in for ``socketserver``, and compare with the standard module's run."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

__all__ = ("Record", "Run", "Way", "compare", "run_side_by_side")

Way = Literal["plain", "injected", "shim"]

CHILD = Path(__file__).with_name("_child.py")
GRACE = 30.0  # seconds: the child ends itself at its limit, with the stacks of its threads; this is for one that cannot
TAIL = 6000  # characters of a child's output that a report shows


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """What one run of one test module gave.

    ``outcomes`` maps each test id to its outcomes in order (a test with failing subtests has several), ``details`` to
    tracebacks and reasons. ``end`` is what the child said last, None if it died or was ended before; then ``running``
    is the test it was in.
    """

    label: str
    outcomes: dict[str, list[str]]
    details: dict[str, str]
    loaded: int | None
    running: str | None
    end: dict[str, Any] | None
    status: str
    output: str

    @property
    def lost_a_port(self) -> bool:
        """Whether a test looked for a free port and found it taken when it came to use it, by anybody on this machine.

        That is the one failure which says nothing about the module under test: `test.support.find_unused_port` warns of it. It
        does say something if that module's own bind() failed.
        """
        own = f"{os.sep}servers{os.sep}_"
        return any(
            "address already in use" in text.lower() and own not in text for text in self.details.values()
        )

    @property
    def complaint(self) -> str | None:
        """Why this run is no basis for a comparison; None if it is one."""
        if self.end is None:
            where = (
                "before its tests were loaded" if self.loaded is None else f"in {self.running or 'no test'}"
            )
            return f"{self.label}: {self.status}, {where}; its output ends:\n{self.output[-TAIL:]}"
        if not self.end["run"]:
            return f"{self.label}: ran no test at all"
        if not self.end["kept"] or self.end["strangers"]:
            return (
                f"{self.label}: another socketserver crept in: {self.end['strangers'] or 'it was replaced'}"
            )
        if not self.end["users"]:
            return f"{self.label}: no module used it"
        return None


def compare(standard: Record, candidate: Record) -> list[str]:
    """Every difference, one paragraph each; empty if the candidate goes unnoticed."""
    complaints = [complaint for record in (standard, candidate) if (complaint := record.complaint)]
    if complaints:
        return complaints
    assert standard.end is not None
    assert candidate.end is not None
    differences = [
        _difference(test, standard, candidate)
        for test in sorted(standard.outcomes.keys() | candidate.outcomes.keys())
        if standard.outcomes.get(test) != candidate.outcomes.get(test)
    ]
    for what, text in (("run", "tests run"), ("altered", "threads, children or files left behind")):
        if standard.end[what] != candidate.end[what]:
            differences.append(
                f"{text}: {standard.label} {standard.end[what]}, {candidate.label} {candidate.end[what]}; "
                f"output of the latter ends:\n{candidate.output[-TAIL:]}"
            )
    return differences


def _difference(test: str, *records: Record) -> str:
    said = ", ".join(
        f"{record.label}: {' + '.join(record.outcomes.get(test, ['missing']))}" for record in records
    )
    return "\n".join([f"{test}: {said}", *filter(None, (record.details.get(test) for record in records))])


class Run:
    """A child at work. The context ends it, with everything it started, whatever happens."""

    def __init__(
        self, target: str, way: Way, test: str, directory: Path, *, resources: str, limit: float
    ) -> None:
        directory.mkdir(parents=True)
        self.label = "standard" if way == "plain" else f"{target} {way}"
        self.limit = limit
        self._events = directory / "events"
        self._output = directory / "output"
        (directory / "cwd").mkdir()
        with self._output.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, str(CHILD), target, way, test, resources, str(limit), str(self._events)],
                cwd=directory / "cwd",
                env=_environment(target, way, directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(
            ProcessLookupError
        ):  # also what the tests left running, in the child's own session
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait(GRACE)

    def record(self) -> Record:
        """Wait for the end of the run, at most its limit, and read what it gave."""
        try:
            code = self._child.wait(self.limit + GRACE)
            status = f"ended with status {code}"
        except subprocess.TimeoutExpired:
            status = f"did not end within {self.limit + GRACE:g} seconds"
        return _read(self.label, status, self._events, self._output)


def _environment(target: str, way: Way, directory: Path) -> dict[str, str]:
    """The child's environment: ours, without what would trace it, with the shim in front and the target within reach."""
    hidden = ("COVERAGE_", "COV_", "PYTEST_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    path = []
    if way == "shim":
        shim = directory / "shim" / "socketserver.py"
        shim.parent.mkdir()
        shim.write_text(
            f"import importlib, sys\nsys.modules[__name__] = importlib.import_module({target!r})\n"
        )
        path.append(str(shim.parent))
    if way != "plain":
        path.append(_folder_of(target))
    environment["PYTHONPATH"] = os.pathsep.join(path)
    return environment


def _folder_of(target: str) -> str:
    top = target.partition(".")[0]
    stand_in = CHILD.parent / "standins" / f"{top}.py"
    if stand_in.exists():
        return str(stand_in.parent)
    spec = find_spec(top)
    assert spec is not None, f"no module {top}"
    assert spec.origin is not None
    package = Path(spec.origin)
    return str(package.parents[1] if package.name == "__init__.py" else package.parent)


def _read(label: str, status: str, events: Path, output: Path) -> Record:
    outcomes: dict[str, list[str]] = {}
    details: dict[str, str] = {}
    loaded = running = end = None
    for event in _lines(events):
        match event:
            case {"event": "loaded", "count": count}:
                loaded = count
            case {"event": "start", "id": test}:
                running = test
            case {"event": "stop"}:
                running = None
            case {"event": "outcome", "id": test, "outcome": outcome, "detail": detail}:
                outcomes.setdefault(test, []).append(outcome)
                if detail:
                    details[test] = details.get(test, "") + detail
            case {"event": "end"}:
                end = event
    text = output.read_text(errors="replace")
    return Record(label, outcomes, details, loaded, running, end, status, text)


def _lines(events: Path) -> Iterator[dict[str, Any]]:
    if events.exists():
        for line in events.read_text().splitlines():
            yield json.loads(line)


def run_side_by_side(
    target: str, test: str, directory: Path, *, resources: str, limit: float
) -> list[Record]:
    """The standard module's run and the target's in both ways, at the same time: they mostly wait."""
    ways: tuple[Way, ...] = ("plain", "injected", "shim")
    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(Run(target, way, test, directory / way, resources=resources, limit=limit))
            for way in ways
        ]
        records = [run.record() for run in runs]
    for number, way in enumerate(ways):
        if records[number].lost_a_port:
            with Run(
                target, way, test, directory / f"{way}-again", resources=resources, limit=limit
            ) as again:
                records[number] = again.record()
    return records

"""The bench itself: that it measures, in turns, and says what it could not measure. No figure is judged here."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest

from tests.bench import __main__ as bench
from tests.bench._figures import Figure, Side, Target, figures
from tests.bench._results import measure, table
from tests.bench._sampling import Failed, Open, Sample, Scale

SMALL = Scale(0.001)


def constant(value: float, log: list[str] | None = None) -> Open:
    def sample() -> Sample:
        if log is not None:
            log.append(f"{value:g}")
        return Sample(value, cpu=1 / value)

    return lambda scale: nullcontext(sample)


def made(ours: Open, other: Open | None = None, target: Target | None = None, unit: str = "conn/s") -> Figure:
    return Figure(
        "name",
        "title",
        unit,
        Side("a", ours),
        Side("b", other) if other else None,
        target or Target(2.0),
        2,
        2,
    )


def figure(name: str) -> Figure:
    (found,) = bench.selected([name], figures("socketserver", "socketserver"))
    return found


def test_both_sides_are_sampled_in_turns() -> None:
    log: list[str] = []

    measure(made(constant(1, log), constant(2, log)), SMALL)

    assert log == ["1", "2"] * 4


@pytest.mark.parametrize(
    ("ours", "other", "target", "verdict"),
    [
        (4.0, 2.0, Target(2.0), "met"),
        (3.9, 2.0, Target(2.0), "MISSED"),
        (1.2, 1.0, Target(1.2, at_most=True), "met"),
        (1.3, 1.0, Target(1.2, at_most=True), "MISSED"),
        (0.001, 0.5, Target(0.001, at_most=True, absolute=True), "met"),
        (0.002, None, Target(0.001, at_most=True, absolute=True), "MISSED"),
    ],
)
def test_verdicts(ours: float, other: float | None, target: Target, verdict: str) -> None:
    result = measure(made(constant(ours), constant(other) if other else None, target), SMALL)

    assert result.verdict == verdict
    assert result.as_row()[-1] == verdict


def test_what_cannot_be_measured_is_said_and_is_no_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(scale: Scale) -> AbstractContextManager[Callable[[], Sample]]:
        raise Failed("out of luck")

    monkeypatch.setattr(bench, "figures", lambda *_: [made(broken), made(constant(1), constant(1))])
    monkeypatch.setattr(bench, "raise_descriptor_limit", lambda: 0)

    assert bench.main(["--only", "name"]) == 1

    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "name could not be measured: out of luck" in printed
    assert "1.00x" in printed


def test_the_table_shows_figure_ratio_number_and_target() -> None:
    result = measure(made(constant(3), constant(2)), SMALL)

    heading, line = table([result]).splitlines()

    assert heading.split() == ["figure", "what", "ours", "other", "ratio", "quartiles", "cpu", "n", "target"]
    assert " ".join(line.split()) == "name title 3 conn/s 2 conn/s 1.50x 1.5..1.5 0.67x 4 >= 2x MISSED"


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [(0.0012, "s", "1.200 ms"), (2e9, "B/s", "2,000 MB/s"), (12345.6, "conn/s", "12,346 conn/s")],
)
def test_figures_are_shown_in_units_for_readers(value: float, unit: str, said: str) -> None:
    result = measure(made(constant(value), unit=unit), SMALL)

    assert result.as_row()[2:4] == (said, "-")


def test_an_unknown_figure_is_refused() -> None:
    with pytest.raises(SystemExit, match="no figure is called 'nonsense'"):
        figure("nonsense")


@pytest.mark.parametrize(
    "name", ["tcp", "udp", "threading-idle", "forking", "bulk-upload", "bulk-download", "import"]
)
def test_one_sample_of_the_real_thing(name: str) -> None:
    opened: AbstractContextManager[Callable[[], Sample]] = figure(name).ours.open(SMALL)

    with opened as sample:
        assert sample().value > 0


@pytest.mark.parametrize("name", ["start-TCPServer", "start-ThreadingTCPServer"])
def test_seconds_are_measured_inside_the_process(name: str) -> None:
    with figure(name).ours.open(SMALL) as sample:
        assert 0 < sample().value < 10


def test_as_json_nothing_is_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench, "figures", lambda *_: [made(constant(3), constant(2))])
    monkeypatch.setattr(bench, "raise_descriptor_limit", lambda: 0)

    assert bench.main(["--only", "name", "--json", "--rounds", "1"]) == 0

    (told,) = json.loads(capsys.readouterr().out)
    assert told["ours"] == {"label": "a", "values": [3, 3], "cpu": [1 / 3, 1 / 3]}
    assert told["ratio"] == 1.5
    assert told["verdict"] == "MISSED"

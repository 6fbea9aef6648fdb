"""The judge of the stand-ins, judged: it passes a perfect one and bites every kind of broken one."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.stdlib._judge import Record, Run, Way, compare

pytestmark = pytest.mark.skipif(
    find_spec("test") is None or find_spec("test.test_socketserver") is None,
    reason="this interpreter was installed without its test modules",
)

GOOD_END = {"run": 2, "file": "f", "kept": True, "users": ["http.server"], "strangers": [], "altered": False}
GOOD = Record(
    label="one",
    outcomes={"a": ["ok"], "b": ["skip"]},
    details={"b": "not here"},
    loaded=2,
    running=None,
    end=GOOD_END,
    status="ended with status 0",
    output="",
)


def run(
    target: str, way: Way, directory: Path, *, test: str = "test.test_socketserver", limit: float = 50
) -> Record:
    with Run(target, way, test, directory / way, resources="walltime,network", limit=limit) as started:
        return started.record()


def other(**changes: object) -> Record:
    ends = {name: changes.pop(name) for name in list(changes) if name in GOOD_END}
    return dataclasses.replace(GOOD, label="two", **changes, end={**GOOD_END, **ends})  # type: ignore[arg-type]


def test_same_results_are_no_difference() -> None:
    assert compare(GOOD, other()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (other(outcomes={"a": ["ok"]}), "b: one: skip, two: missing"),
        (other(outcomes={"a": ["ok"], "b": ["skip"], "c": ["ok"]}), "c: one: missing, two: ok"),
        (
            other(outcomes={"a": ["failed subtest", "failed subtest"], "b": ["skip"]}),
            "a: one: ok, two: failed subtest +",
        ),
        (other(outcomes={"a": ["error"], "b": ["skip"]}, details={"a": "Traceback: x"}), "Traceback: x"),
        (other(run=1), "tests run: one 2, two 1"),
        (other(run=0), "two: ran no test"),
        (other(altered=True), "left behind: one False, two True"),
        (other(users=[]), "two: no module used it"),
        (other(kept=False), "two: another socketserver crept in"),
        (other(strangers=["http.server"]), "two: another socketserver crept in: ['http.server']"),
        (dataclasses.replace(GOOD, label="two", end=None, running="a"), "two: ended with status 0, in a"),
        (dataclasses.replace(GOOD, label="two", end=None, loaded=None), "before its tests were loaded"),
    ],
)
def test_every_kind_of_difference_is_said(changed: Record, said: str) -> None:
    differences = compare(GOOD, changed)

    assert len(differences) == 1
    assert said in differences[0]


@pytest.mark.parametrize(
    ("detail", "lost"),
    [
        (
            'File "asyncio/base_events.py"\nOSError: [Errno 98] error while attempting to bind: address already in use',
            True,
        ),
        ("OSError: [Errno 98] Address already in use", True),
        (
            'File "servertest/servers/_inet.py", in server_bind\nOSError: [Errno 98] Address already in use',
            False,
        ),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", False),
    ],
)
def test_a_port_that_somebody_took_is_told_from_a_bind_of_ours_that_failed(detail: str, lost: bool) -> None:
    assert other(details={"a": detail}).lost_a_port is lost


@pytest.mark.parametrize("way", ["injected", "shim"])
def test_a_perfect_stand_in_goes_unnoticed_and_a_faulty_one_does_not(way: Way, tmp_path: Path) -> None:
    perfect = run("same_again", way, tmp_path / "perfect")
    faulty = run("left_open", way, tmp_path / "faulty")

    assert compare(perfect, perfect) == []
    difference, *others = compare(perfect, faulty)
    assert not others
    assert difference.startswith("test.test_socketserver.")
    assert "test_context_manager: same_again" in difference
    assert "AssertionError" in difference


def test_a_run_that_hangs_is_ended_and_says_where(tmp_path: Path) -> None:
    stuck = run("stuck", "injected", tmp_path, limit=0.5)

    assert stuck.complaint is not None
    assert "in test.test_socketserver.ErrorHandlerTest.test_" in stuck.complaint
    assert "Timeout" in stuck.complaint
    assert "stuck.py" in stuck.complaint  # the stacks of its threads


@pytest.mark.parametrize("way", ["injected", "shim"])
def test_a_stand_in_that_leans_on_the_standard_module_is_refused(way: Way, tmp_path: Path) -> None:
    complaint = run("hanger_on", way, tmp_path).complaint

    assert complaint is not None
    assert "before its tests were loaded" in complaint


def test_a_test_module_that_cannot_be_imported_is_no_pass(tmp_path: Path) -> None:
    record = run("same_again", "injected", tmp_path, test="test.test_no_such_module")

    assert list(record.outcomes.values()) == [["error"]]
    assert record.complaint == "same_again injected: no module used it"

"""The catalogue of checks, and what holds for every check."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import broken_ones
from servertest._support import UsageError
from servertest.contract import CheckInfo, all_checks, checks_for, select_checks
from servertest.contract._catalogue import catalogue

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
CHECKS = all_checks()


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == catalogue(), (
        "make it again: python -m servertest.contract._catalogue > docs/checks.md"
    )


@pytest.mark.parametrize("info", CHECKS, ids=lambda info: f"{info.name}-{info.transport}")
def test_every_check_says_in_a_sentence_what_it_does(info: CheckInfo) -> None:
    assert info.summary.endswith("."), info.summary
    assert len(info.summary) < 200, info.summary


def test_every_check_that_a_broken_handler_is_meant_for_exists() -> None:
    names = {info.name for info in CHECKS}
    assert {fixture.check for fixture in broken_ones()} <= names


@pytest.mark.parametrize("name", sorted({info.name for info in CHECKS}))
def test_every_check_bites(name: str) -> None:
    assert name in {fixture.check for fixture in broken_ones()}, (
        "write a handler for fixtures/broken that it finds"
    )


def test_checks_are_chosen_by_name_and_by_family() -> None:
    assert [info.name for info in select_checks("split_at_every_byte")] == ["split_at_every_byte"]
    assert {info.family for info in select_checks(["tls", "framing"])} == {"framing", "tls"}
    assert len(select_checks("all")) == len(select_checks(None)) == len(CHECKS)
    assert {info.transport for info in checks_for("garbage")} == {"stream", "datagram"}


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean split_at_every_byte"):
        select_checks(["split_at_every_bite"])

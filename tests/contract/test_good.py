"""Every good handler is clean, on every kind of server that it promises to run on."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from fixtures import Fixture, good_ones
from servertest.launch import Kind
from tests.contract._fixtures import contract_of, described, every_kind, two_kinds

#: The seed of the slow ones; all by default.
SEED = os.environ.get("SERVERTEST_CONTRACT_SEED")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fixture", good_ones(), ids=str)
def test_it_is_clean(fixture: Fixture) -> None:
    _check(fixture, two_kinds(fixture), 0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(20) if SEED is None else [int(SEED)])
@pytest.mark.parametrize("fixture", good_ones(), ids=str)
def test_it_is_clean_on_every_kind_and_with_every_seed(fixture: Fixture, seed: int) -> None:
    _check(fixture, every_kind(fixture), seed)


def _check(fixture: Fixture, kinds: Iterable[Kind], seed: int) -> None:
    report = contract_of(fixture, kinds, seed=seed)
    assert report.ok, described(report)
    assert not report.violated(), described(report)

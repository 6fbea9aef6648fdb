"""Every good handler is clean, on every kind of server that it promises to run on."""

from __future__ import annotations

import os

import pytest

from fixtures import Fixture, good_ones
from tests.contract._fixtures import contract_of, described, every_kind


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fixture", good_ones(), ids=str)
def test_it_is_clean(fixture: Fixture) -> None:
    seed = int(os.environ.get("SERVERTEST_CONTRACT_SEED", "0"))
    report = contract_of(fixture, every_kind(fixture), seed=seed)
    assert report.ok, described(report)
    assert not report.violated(), described(report)

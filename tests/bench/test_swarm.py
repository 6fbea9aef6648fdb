"""The measurements of swarms measure something."""

from __future__ import annotations

import shutil

import pytest

from tests.bench.swarm import measure_asyncio, measure_ours, measure_slowhttptest


def test_the_local_engine_is_measured() -> None:
    cost = measure_ours(2000, 1.5)

    assert cost.connected > 0
    assert cost.cpu > 0
    # This one does not depend on how busy the machine is.
    assert cost.memory < 3 * 1024
    assert cost.sent is not None
    assert cost.sent[0] >= 1


def test_asyncio_is_measured() -> None:
    cost = measure_asyncio(100, 1.5)

    assert cost.cpu > 0
    assert cost.sent is not None
    assert cost.sent[0] >= 1


@pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="slowhttptest is not installed here")
def test_slowhttptest_is_measured() -> None:
    assert measure_slowhttptest(100, 1.0).cpu > 0

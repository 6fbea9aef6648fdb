"""Networks with names."""

from __future__ import annotations

import pytest

from servertest.faults import PRESETS, Bandwidth, Latency, Preset, plan, presets, start, upstream
from tests.faults._driving import carry


def test_the_usual_names_are_there() -> None:
    assert {"lan", "wan", "dsl", "3g", "4g", "lossy_wifi", "satellite"} <= presets().keys()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_is_a_plan_for_its_transports_with_a_source(preset: Preset) -> None:
    assert preset.about
    assert preset.source
    assert plan(preset.name) == plan(f"preset:{preset.name.upper()}") == preset.plan
    assert plan(preset.plan.text) == preset.plan
    for transport in preset.carried_by:
        for direction in ("upstream", "downstream"):
            assert start(preset.plan, transport=transport, direction=direction)
        assert presets(transport)[preset.name] == preset.plan


def test_those_that_lose_are_for_datagrams_alone() -> None:
    assert "lossy_wifi_datagrams" in presets("datagram")
    assert "lossy_wifi_datagrams" not in presets("stream")
    assert "lossy_wifi" not in presets("datagram")


def test_the_figures_are_those_that_arrive() -> None:
    carried = carry("3g", bytes(20_000))

    assert carried.times[-1] == pytest.approx(0.15 + 20_000 / 200_000)
    slow = carry("3g", bytes(9_600), direction="upstream")
    assert slow.times[-1] == pytest.approx(0.15 + 9_600 / 96_000)


def test_they_compose_like_any_plan() -> None:
    assert plan("upstream(lan)|latency:1") == upstream(Bandwidth(12_500_000), Latency(0.002)) | Latency(1)

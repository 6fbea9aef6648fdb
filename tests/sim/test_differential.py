"""The simulation against the kernel: the same scenes, the same outcomes."""

import sys

import pytest

from servertest.sim import Simulation
from tests.sim._scenarios import SCENARIOS, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compares with the kernel of Linux")

#: What is left in a buffer when a scene is over, and who reads first, may differ by schedule; what a scene notes may not.
SEEDS = range(4)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_outcome_is_the_kernels(name: str) -> None:
    real = list(run(name))

    for seed in SEEDS:
        with Simulation(seed):
            simulated = list(run(name))
        assert simulated == real, f"seed {seed}"


def test_there_are_enough_scenes() -> None:
    assert len(SCENARIOS) >= 60

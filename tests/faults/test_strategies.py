"""What Hypothesis makes, and what is left when something fails."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import find, given, settings

from servertest.faults import Corrupt, Fault, Latency, LimitData, Loss, Plan, Slicer, registry
from servertest.faults.strategies import faults, plans
from tests.faults._driving import carry

quiet = settings(max_examples=500, derandomize=True, database=None, deadline=None)
examples = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def test_the_package_does_not_import_hypothesis() -> None:
    code = "import sys, servertest.faults; print('hypothesis' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("kind", registry.values(), ids=lambda kind: kind.name)
def test_every_kind_comes(kind: type[Fault]) -> None:
    transport: Any = "stream" if "stream" in kind.carried_by else "datagram"

    assert isinstance(
        find(faults(transport, place=kind.place), lambda one: type(one) is kind, settings=quiet), kind
    )


@examples
@given(plans("datagram", max_faults=2))
def test_plans_are_for_the_transport_and_no_longer_than_asked_for(whole: Plan) -> None:
    whole.check("datagram", ("line",))
    assert len(whole) <= 2


def test_a_plan_that_fails_shrinks_to_the_fault_that_matters() -> None:
    data = bytes(300)
    smallest = find(plans("stream"), lambda whole: carry(whole, data).data != data, settings=quiet)

    assert len(smallest) == 1
    assert smallest.entries[0].trigger is None
    assert smallest.entries[0].direction is None


def test_fields_that_do_not_matter_shrink_to_their_usual_values() -> None:
    found = find(plans("stream", kinds=[Latency, Slicer]), lambda whole: len(whole) == 2, settings=quiet)

    assert found == Latency() | Latency()


def test_a_value_that_matters_shrinks_to_the_border() -> None:
    found = find(
        plans("stream", kinds=[Latency, LimitData, Corrupt]),
        lambda whole: 1100 <= len(carry(whole, bytes(2000)).data) < 2000,
        settings=quiet,
    )

    assert found == Plan.of(LimitData(1100))


def test_a_probability_shrinks_too() -> None:
    found = find(
        plans("datagram", kinds=[Loss, Latency]),
        lambda whole: len(carry(whole, [b"x"] * 100, "datagram").datagrams) < 50,
        settings=quiet,
    )

    (entry,) = found
    assert isinstance(entry.fault, Loss)
    assert 0.4 < entry.fault.probability < 0.7

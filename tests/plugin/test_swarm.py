"""The fixture `swarm`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]

HEAD = """
from servertest.clients.behaviours import IdleAfterConnect, SlowWriter

class Hasty(Upper):
    timeout = 0.3
"""


def test_a_crowd_and_an_honest_client(run: Run) -> None:
    result = run(
        HEAD
        + """
@pytest.mark.parametrize("kind", ["ThreadingTCPServer", "ForkingTCPServer"])
def test_slowloris(serve, swarm, kind):
    server = serve(Hasty, kind)  # whose handler raises TimeoutError
    with swarm(server, SlowWriter(b"hello\\n", bytes_per_second=1), clients=20) as crowd:
        assert crowd.probe(b"hi\\n", b"HI\\n").served
    assert crowd.result.cut_off_by_server == 20
    assert crowd.profile.duration == 10
    assert swarm.crowds == (crowd,)

def test_built_in_profiles_do_not_stay_long(serve, swarm, servertest_seed):
    crowd = swarm(serve(Upper), "slow-headers")
    assert (crowd.profile.duration, crowd.profile.seed) == (10, servertest_seed)
    assert swarm(serve(Upper), "slow-headers", duration=30, seed=3).profile.duration == 30
    assert swarm(serve(Upper), SlowWriter(), duration=1).profile.duration == 1
""",
        subprocess=True,
    )
    result.assert_outcomes(passed=3)


def test_a_failed_test_shows_its_crowds_and_leaves_none(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_result(serve, swarm):
    with swarm(serve(Hasty), IdleAfterConnect(), clients=3) as crowd:
        pass
    assert crowd.result.cut_off_by_server == 0

def test_left(serve, swarm):
    swarm(serve(Upper), IdleAfterConnect(), clients=3, duration=60).start()
    assert False
""",
        subprocess=True,
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*servertest swarm: idle_after_connect*", "*3 cut off by the server*"])


def test_a_client_that_is_rude_on_purpose_fails_no_test(run: Run) -> None:
    result = run(
        HEAD
        + """
def test_it(serve):
    with serve(Hasty).connect(IdleAfterConnect()) as client:
        assert client.run(5).cut_off_by_server
"""
    )
    result.assert_outcomes(passed=1)

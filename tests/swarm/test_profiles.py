"""Profiles: what they accept, and that they say the same to everybody."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from servertest._support import UsageError
from servertest.clients.behaviours import Flooder, Honest, IdleAfterConnect, SlowWriter, StalledHandshake
from servertest.swarm import PROFILES, Part, Profile, profile

TOML = """
clients = 40
duration = 2.5
per_second = 20
seed = "again"
[[behaviours]]
behaviour = 'slow_writer:"hi\\n",bytes_per_second:2'
share = 3
[[behaviours]]
behaviour = "idle_after_connect"
"""


@pytest.mark.parametrize("name", PROFILES)
def test_a_built_in_profile_survives_json(name: str) -> None:
    one = PROFILES[name]

    assert one.name == name
    assert one.about
    assert profile(name) is not None
    assert profile(json.loads(json.dumps(one.as_dict()))) == one
    assert profile(name.replace("-", "_")) == one


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "crowd.toml"
    path.write_text(TOML)
    made = profile(path)

    assert made.name == "crowd"
    assert made.parts == (Part(SlowWriter(b"hi\n", 2), 3), Part(IdleAfterConnect(), 1))
    assert (made.clients, made.duration, made.per_second, made.seed) == (40, 2.5, 20, "again")
    (tmp_path / "crowd.json").write_text(json.dumps(made.as_dict()))
    assert profile(str(tmp_path / "crowd.json"), clients=5).clients == 5


def test_what_stands_for_a_profile() -> None:
    slow = SlowWriter(b"hi\n")
    wanted = Profile((Part(slow),), name="slow_writer")

    assert profile(slow) == wanted
    assert profile('slow_writer:"hi\\n"') == wanted
    assert profile([slow, Honest()]).parts == (Part(slow), Part(Honest()))
    assert Profile([(slow, 2), "honest"]).parts == (Part(slow, 2), Part(Honest()))  # type: ignore[arg-type]
    assert profile(wanted, clients=3, seed=None).clients == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: profile("slow_writr"), "did you mean slow_writer.*\n.*\n.*\nProfiles are churn"),
        (lambda: profile("nowhere.json"), "nowhere.json cannot be read"),
        (lambda: profile({"clients": 3}), "behaviours is a list with at least one"),
        (lambda: profile({"behaviours": ["honest"], "speed": 3}), "there is no value 'speed'"),
        (lambda: profile({"behaviours": [{"kind": "honest"}]}), '"behaviour": text'),
        (lambda: profile(Honest(), clients=0), "clients is a whole number from 1 to"),
        (lambda: profile(Honest(), duration=-1), "duration is a number of seconds"),
        (lambda: profile(Honest(), transport="sctp"), "transport is one of 'stream', 'datagram'"),
        (lambda: profile(Honest(), tls="yes"), "tls is true or false"),
        (lambda: profile(Honest(), seed=1.5), "seed is a whole number or a text"),
        (lambda: profile(SlowWriter(), transport="datagram"), "SlowWriter is not for a datagram"),
        (lambda: profile(StalledHandshake()), "handshake of TLS"),
        (lambda: profile(Flooder(), transport="datagram", tls=True), "tls goes with transport 'stream'"),
        (lambda: Profile((Part(Honest(), 0),)), "a share above 0"),
        (lambda: profile(7), "a profile is a name"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()


@pytest.mark.parametrize(("name", "text"), [("a.toml", "clients = "), ("a.json", "[1]"), ("b.json", "{")])
def test_a_malformed_file_is_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="is malformed"):
        profile(tmp_path / name)


@settings(max_examples=50, derandomize=True, database=None)
@given(st.integers(1, 300), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 9))
def test_shares_are_met_to_the_nearest_client(clients: int, shares: list[int], seed: int) -> None:
    made = Profile(tuple(Part(Honest(), share) for share in shares), clients=clients, seed=seed)
    roles = made.roles()
    counts = Counter(roles)

    assert len(roles) == clients
    for number, share in enumerate(shares):
        assert abs(counts[number] - clients * share / sum(shares)) < 1
    assert list(made.roles()) == list(roles)


def test_who_comes_when() -> None:
    at_once = profile(Honest(), clients=5)
    ramp = profile(Honest(), clients=5, per_second=2)
    jittery = profile(ramp, start_jitter=0.5, seed=3)

    assert [at_once.start_of(number) for number in (1, 5)] == [0, 0]
    assert [ramp.start_of(number) for number in (1, 2, 5)] == [0, 0.5, 2]
    assert ramp.ramp == 2
    for number in range(1, 6):
        assert ramp.start_of(number) <= jittery.start_of(number) < ramp.start_of(number) + 0.5
        assert jittery.start_of(number) == profile(jittery).start_of(number)

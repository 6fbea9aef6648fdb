"""What holds for every behaviour that exists, or will."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, reject, settings, strategies as st

import servertest.clients.behaviours as package
from servertest._support import UsageError
from servertest.clients.behaviours import (
    Behaviour,
    Honest,
    SlowWriter,
    StalledHandshake,
    behaviour,
    behaviours,
)
from servertest.faults.strategies import values

KINDS = sorted(behaviours.values(), key=lambda kind: kind.name)
NAMES: dict[str, Any] = vars(package)

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
examples = settings(max_examples=25, derandomize=True, database=None, deadline=None)


def of_kind(kind: type[Behaviour]) -> st.SearchStrategy[Behaviour]:
    fields = {each.name: values(each.rule) for each in kind.parameters() if each.rule}

    def built(given: dict[str, Any]) -> Behaviour:
        try:
            made: Behaviour = replace(kind.example(), **given)  # type: ignore[type-var]
        except UsageError:
            reject()
        return made

    return st.fixed_dictionaries({}, optional=fields).map(built)


@every_kind
def test_says_what_it_is_and_what_its_fields_mean(kind: type[Behaviour]) -> None:
    assert kind.description()
    for parameter in kind.parameters():
        assert parameter.rule is not None, f"{parameter.name} takes anything"
        assert parameter.about, f"the docstring says nothing of {parameter.name}"


@every_kind
def test_repr_and_text_read_back_equal(kind: type[Behaviour]) -> None:
    @examples
    @given(of_kind(kind))
    def check(one: Behaviour) -> None:
        assert eval(repr(one), NAMES) == one
        assert behaviour(one.text) == one
        assert behaviour(str(one)) == one
        assert pickle.loads(pickle.dumps(one)) == one
        assert hash(behaviour(one.text)) == hash(one)

    check()


@every_kind
def test_has_a_script_for_each_transport_that_carries_it(kind: type[Behaviour]) -> None:
    for transport in kind.carried_by:
        script = kind.example().script(transport)
        script.faults.check(transport, ("line",))


@every_kind
def test_is_exported(kind: type[Behaviour]) -> None:
    assert NAMES[kind.__name__] is kind


def test_text_is_read_with_units() -> None:
    assert behaviour('slow_writer:"a\\n",bytes_per_second:2kB/s,jitter:50%') == SlowWriter(
        b"a\n", 2000, jitter=0.5
    )
    assert behaviour("honest:every:250ms") == Honest(every=0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slow_writter", "did you mean slow_writer"),
        ("slow_writer:speed:3", "there is no field of SlowWriter 'speed'"),
        ("slow_writer:bytes_per_second:0", "bytes_per_second is more than 0"),
        ("slow_writer|idle", "nothing goes on here"),
        ("", "the name of a behaviour"),
    ],
)
def test_text_that_is_wrong_says_where(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        behaviour(text)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SlowWriter(b""), "payload is bytes, at least one"),
        (lambda: SlowWriter(chunk=2, variation=2), "variation is less than chunk, 2"),
        (lambda: SlowWriter(jitter=1.5), "jitter is a number from 0 to 1"),
        (lambda: behaviour(3), "a behaviour is a value such as SlowWriter"),  # type: ignore[arg-type]
        (lambda: SlowWriter().check("datagram"), "SlowWriter is not for a datagram"),
        (lambda: StalledHandshake().check("stream"), "about the handshake of TLS"),
    ],
)
def test_values_that_make_no_sense_are_refused(make: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make()

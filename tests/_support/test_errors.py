from __future__ import annotations

import copy
import errno
import pickle

import pytest

from servertest import _support
from servertest._support import (
    AddressError,
    AddressInUse,
    DeadlineExceeded,
    HandlerFailed,
    LeakFound,
    Mismatch,
    PeerClosed,
    PeerRefused,
    PeerReset,
    RemoteError,
    ServertestError,
    StillRunning,
    UnknownKeyword,
    UsageError,
)

EXAMPLES: list[ServertestError] = [
    UsageError("ask better"),
    UnknownKeyword("no such"),
    AddressError("no address"),
    AddressInUse("taken"),
    DeadlineExceeded("a line", 0.5, b"half a li", "the server was asleep"),
    PeerClosed("gone", b"half"),
    PeerReset("cut off", b"half"),
    PeerRefused("nobody"),
    Mismatch("wrong"),
    HandlerFailed("raised"),
    StillRunning("a thread"),
    LeakFound("a socket"),
    RemoteError("KeyError", "'x'", "Traceback ..."),
]
names = [type(error).__name__ for error in EXAMPLES]


def test_there_is_an_example_of_every_error() -> None:
    exported = {getattr(_support, name) for name in _support.__all__}
    leaves = {thing for thing in exported if isinstance(thing, type) and issubclass(thing, ServertestError)}
    assert leaves - {ServertestError} == {type(error) for error in EXAMPLES}


@pytest.mark.parametrize("error", EXAMPLES, ids=names)
def test_errors_have_one_root_and_are_a_built_in_that_callers_catch(error: ServertestError) -> None:
    # RemoteError stands for any error at all, so there is no built-in that it could be.
    assert isinstance(error, (OSError, ValueError, AssertionError, RuntimeError, RemoteError))


@pytest.mark.parametrize("error", EXAMPLES, ids=names)
@pytest.mark.parametrize(
    "through", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy], ids=["pickle", "copy"]
)
def test_errors_survive_the_way_between_processes(error: ServertestError, through: object) -> None:
    assert callable(through)
    twin = through(error)
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert getattr(twin, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize(
    ("error", "number", "text"),
    [
        (AddressInUse("taken"), errno.EADDRINUSE, "taken"),
        (PeerReset("cut off"), errno.ECONNRESET, "cut off"),
        (PeerRefused("nobody"), errno.ECONNREFUSED, "nobody"),
    ],
)
def test_errno_is_kept_and_the_text_is_ours(error: OSError, number: int, text: str) -> None:
    assert error.errno == number
    assert str(error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DeadlineExceeded("a line", 5.0, b"abc"), "waited 5 s for a line; 3 bytes came: b'abc'"),
        (DeadlineExceeded("a line", 0.1 + 0.2, b"a"), "waited 0.3 s for a line; 1 byte came: b'a'"),
        (DeadlineExceeded("a line", 120, b""), "waited 120 s for a line; nothing came"),
        (DeadlineExceeded("the server to stop", 10.0), "waited 10 s for the server to stop"),
        (DeadlineExceeded("the end", 1, None, "a\nb"), "waited 1 s for the end\na\nb"),
    ],
)
def test_a_deadline_says_what_it_waited_for_and_what_came(error: DeadlineExceeded, text: str) -> None:
    assert str(error) == text


def test_a_deadline_cuts_long_bytes() -> None:
    assert len(str(DeadlineExceeded("the end", 1, b"x" * 100_000))) < 300

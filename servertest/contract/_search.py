"""Inputs that nobody thought of: Hypothesis looks for them among what can be made of the declared ones, and shrinks what it finds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._case import Case
from ._conversation import Conversation
from ._plan import Piece, Plan, Record

if TYPE_CHECKING:
    from ._checks._common import Found

__all__ = ("search_settings", "searched")

#: Inputs that are tried.
_EXAMPLES = 150


def searched(case: Case, conversation: Conversation, judge: Callable[[Plan, Record], str]) -> list[Found]:
    """Search for an input of which the judge has something to say.

    Args:
        case: The case; its seed repeats the search.
        conversation: The input is made of its requests.
        judge: As for `wrongs`.

    Returns:
        The shortest that was found, or nothing.
    """
    from hypothesis import given, seed

    from ._checks._common import Found

    found: list[Found] = []

    @seed(case.seed)
    @search_settings(case, _EXAMPLES)  # type: ignore[untyped-decorator]
    @given(_inputs(conversation))
    def search(pieces: tuple[bytes, ...]) -> None:
        following = () if case.promises.stateful else (conversation.plan(),)
        plan = Plan(pieces=tuple(map(Piece, pieces)), after=following)
        record = case.play(plan, conversation)
        if what := judge(plan, record):
            found.append(Found(plan, record, what))
            raise _Seen

    try:
        search()
    except _Seen:
        return [min(found, key=lambda one: (len(one.plan.sent), len(one.plan.pieces)))]
    return []


def search_settings(case: Case, examples: int, **options: Any) -> Any:
    """How Hypothesis searches: repeatably by the case's seed, and beginning with what was found the last time.

    That is kept in ``.hypothesis/servertest`` of the current directory, for each subject and check; where ``CI`` is set, nothing is kept.
    """
    from hypothesis import HealthCheck, Phase, Verbosity, settings
    from hypothesis.database import DirectoryBasedExampleDatabase

    database = None
    if not os.environ.get("CI"):
        module = getattr(getattr(case.target, "handler", None), "__module__", "")
        name = re.sub(r"[^\w.-]+", "_", f"{module}.{case.target.name}-{case.check}")
        database = DirectoryBasedExampleDatabase(Path(".hypothesis", "servertest", name))
    return settings(
        max_examples=examples,
        deadline=None,
        database=database,
        derandomize=False,
        phases=(Phase.reuse, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        **options,
    )


class _Seen(Exception):  # noqa: N818 - not an error, but how Hypothesis is told that something was found
    """Something was found."""


def _inputs(conversation: Conversation) -> Any:
    """What clients could send: declared requests whole and in part, changed and joined; lines, numbers, and raw bytes."""
    from hypothesis import strategies as st

    pieces = conversation.pieces()
    words = sorted({word for piece in pieces for word in piece.split() if len(word) < 40})
    declared = st.sampled_from(pieces)
    part = st.builds(
        lambda data, begin, end: data[min(begin, end) : max(begin, end)],
        declared,
        st.integers(0, 60),
        st.integers(0, 60),
    )
    token = st.one_of(
        st.sampled_from(words or [b"x"]),
        st.integers(-2, 1 << 33).map(lambda number: str(number).encode()),
        st.binary(max_size=8),
        st.sampled_from([b" ", b"\n", b"\r\n", b"\0", b"\xff", b":", b"=", b",", b"-1", b"{}", b"[]", b'"']),
    )
    line = (
        st.lists(token, max_size=5)
        .map(b" ".join)
        .flatmap(lambda data: st.sampled_from([data + b"\n", data + b"\r\n", data]))
    )
    return st.lists(st.one_of(declared, part, line, st.binary(max_size=40)), min_size=1, max_size=4).map(
        tuple
    )

"""How a test is failed by what its servers have to say: everything once, and one line of it for summaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pytest

__all__ = ("complain", "shorten")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


def complain(what: str | Sequence[BaseException], more: str = "") -> NoReturn:
    """Fail the test, without a traceback of ours.

    Args:
        what: What to say, or what has been raised.
        more: Lines to be added.

    Raises:
        pytest.fail.Exception: Always.
    """
    __tracebackhide__ = True
    complaints = [what] if isinstance(what, str) else list(map(str, what))
    failure = pytest.fail.Exception("\n".join(filter(None, ["\n\n".join(complaints), more])), pytrace=False)
    headline = _headline(complaints[0] if isinstance(what, str) else what[0])
    others = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    failure.servertest_headline = f"{headline}{others}"  # type: ignore[attr-defined]
    raise failure


def shorten(report: Any, error: Any) -> None:
    """Let summaries show one line of an error that stands in full above them: with CI set, they repeat whole messages."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        name, _, _ = crash.message.partition(": ")
        crash.message = f"{name}: {error.servertest_headline}"


def _headline(what: str | BaseException) -> str:
    return getattr(what, "servertest_headline", None) or str(what).partition("\n")[0]

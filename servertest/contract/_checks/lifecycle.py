"""The life of a handler and of its server: from setup() to the stop."""

from __future__ import annotations

from collections.abc import Iterator

from .._case import Case
from .._plan import Plan, Record
from .._registry import contract_check
from .._violation import Violation
from .._wrong import Wrong
from ._common import shortest, wrongs_together

__all__ = ("listener_stays_open", "setup_and_finish", "shutdown_from_inside")


@contract_check("lifecycle")
def setup_and_finish(case: Case) -> Iterator[Violation]:
    """What a handler overrides of setup() and finish() calls that of its base class.

    After each conversation, and after one in which the client says nothing, the files that StreamRequestHandler makes are closed, and its connection
    was prepared.
    """
    yield from _noted(case, "base class", "the handler")


@contract_check("lifecycle")
def shutdown_from_inside(case: Case) -> Iterator[Violation]:
    """No request shuts the whole server down.

    `shutdown()` called from inside of a handler ends the server for all clients; on a server that serves one at a time it waits for itself, for ever.
    """
    yield from _noted(case, "shuts the whole server down", "a request")


@contract_check("lifecycle")
def listener_stays_open(case: Case) -> Iterator[Violation]:
    """No request closes the listening socket, or changes what the whole process uses.

    After each conversation the server's socket is open, and no default time-out was set for new sockets.
    """
    yield from _noted(case, ("closes the listening socket", "sets a time-out"), "a request")


def _noted(case: Case, what: str | tuple[str, ...], who: str) -> Iterator[Violation]:
    wanted = (what,) if isinstance(what, str) else what

    def judge(plan: Plan, record: Record) -> str:
        notes = [note for note in record.notes if any(one in note for one in wanted)]
        return Wrong(f"{who} {' and '.join(notes)}", "not record.notes") if notes else ""

    for conversation in case.conversations:
        plans = [
            Plan(),
            conversation.plan(),
            *(conversation.first(count).plan() for count in range(1, len(conversation.exchanges))),
        ]
        yield from shortest(case, wrongs_together(case, conversation, plans, judge))

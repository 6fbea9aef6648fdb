"""What errors that nobody has claimed have to say, and whether they are errors at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._support import HandlerFailed, LeakFound, shorten_lines
from ..transcript import Transcript

if TYPE_CHECKING:
    from ._errors import HandlerError

__all__ = ("failure_of", "tells_of_loss")


def failure_of(
    who: object, errors: Sequence[HandlerError], transcript: Transcript | None, more: str
) -> HandlerFailed:
    """The failure that shows these errors, each stack once, with the connections on which they happened.

    Args:
        who: Whose errors.
        errors: At least one.
        transcript: What passed, if that was recorded.
        more: Further lines, if there are any.
    """
    count = f"{len(errors)} errors" if len(errors) > 1 else "an error"
    lines = [f"{count} at {who} which the test did not claim"]
    seen: dict[str, int] = {}
    for number, error in enumerate(errors, 1):
        lines.append(f"[{number}] {shorten_lines(str(error))}")
        if stack := _stack_in(error.traceback_text):
            first_one = seen.setdefault(stack, number)
            again = f"    (the same stack as in [{first_one}])"
            lines.append(error.traceback_text.rstrip() if first_one == number else again)
    lines += _conversations(transcript, {error.connection for error in errors if error.connection})
    lines += [more] if more else []
    lines.append(_way_out(errors[0]))
    failure = HandlerFailed("\n".join(lines))
    # Whoever prints the failure prints its cause before it; the message has the tracebacks, each of them once.
    exceptions = [error.exception.with_traceback(None) for error in errors]
    failure.__cause__ = exceptions[0] if len(exceptions) == 1 else BaseExceptionGroup(lines[0], exceptions)
    return failure


def tells_of_loss(exception: BaseException, *, rude: bool) -> bool:
    """Whether an exception says that the client is gone; or, of a rude one, that it did not keep to what is usual."""
    if isinstance(exception, ConnectionError | EOFError):
        return True
    # Known by its name: nothing here imports ssl.
    secure = any(kind.__name__ == "SSLError" for kind in type(exception).__mro__)
    # A Unix datagram client whose name is gone has no address that could be found.
    return rude and (secure or isinstance(exception, TimeoutError | FileNotFoundError))


def _conversations(transcript: Transcript | None, numbers: set[Any]) -> list[str]:
    if transcript is None or not numbers:
        return []
    events = [event for event in transcript.events if event.connection in numbers]
    return [Transcript.from_events(events).render()]


def _way_out(error: HandlerError) -> str:
    """What to do if an error is none."""
    if isinstance(error.exception, LeakFound):
        return (
            'If it has to be so: @pytest.mark.servertest_no_leak_check(reason="..."), or options={"leak_check": False} '
            "where the server is put up."
        )
    first = error.type_name.rpartition(".")[2]
    return f"If it is meant to happen: with server.expects_error({first}): ..., or server.errors.pop()."


def _stack_in(traceback_text: str) -> str:
    """A traceback without the exceptions at the ends of its stacks, which may differ where the stacks do not; "" if it has none."""
    if "\n  File " not in traceback_text:
        return ""
    return "\n".join(line for line in traceback_text.splitlines() if line.startswith("  "))

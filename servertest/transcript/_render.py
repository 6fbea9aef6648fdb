"""A transcript as text, for whoever has to understand a failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._support import format_address, preview, shorten_lines
from ._events import Close, Connect, Data, Datagram, Direction, Event, Failure, Gap, HalfClose, Note
from ._hexdump import hexdump

if TYPE_CHECKING:
    from ._conversation import Conversation
    from ._transcript import Transcript

__all__ = ("render", "summary")

_ARROW: dict[Direction, str] = {"upstream": "-->", "downstream": "<--"}
_HALF = {"client": "--|", "server": "|--"}
_RESET = {"client": "--X", "server": "X--"}

# What goes before the first column of hex: "  0.000312 --> ".
_MARGIN = 15

# A connection shown with fewer lines than this says nothing.
_USEFUL = 4


def summary(transcript: Transcript, *, most: int = 10) -> str:
    """A line for each of the connections (not more than ``most``; open ones go first), or that there was none."""
    conversations = transcript.connections
    if not conversations:
        return "there has been no connection yet" + _failure_count(len(transcript.failures))
    shown = sorted(conversations, key=lambda c: not c.is_open)[:most]
    lines = [
        f"there {_were(len(conversations))}:",
        *map(_summary_line, sorted(shown, key=lambda c: c.number)),
    ]
    if len(conversations) > most:
        lines.append(f"  and {_others([c for c in conversations if c not in shown])}")
    lines += [f"  failure in {failure.where}: {_error(failure)}" for failure in transcript.failures[-3:]]
    return "\n".join(lines)


def render(transcript: Transcript, *, max_lines: int, width: int) -> str:
    """The whole transcript, connection by connection, in at most ``max_lines`` lines of ``width`` columns."""
    conversations = transcript.connections
    by_number: dict[int, list[Event]] = {conversation.number: [] for conversation in conversations}
    general: list[Event] = []
    for event in transcript.events:
        by_number.get(event.connection, general).append(event)
    lines = [_title(transcript, conversations)]
    lines += [line for event in general for line in _event_lines(_Block((event,)), width, 3)][:_USEFUL]
    room = max(_USEFUL, max_lines - len(lines))
    shown = most_telling(conversations, room // _USEFUL)
    room -= len(shown) < len(conversations)
    bodies = [_conversation_lines(c, by_number[c.number], width, room) for c in shown]
    for body, share in zip(bodies, _shares([len(body) for body in bodies], room), strict=True):
        lines += _shortened(body, share)
    if len(shown) < len(conversations):
        lines.append(f"and {_others([c for c in conversations if c not in shown])}")
    return "\n".join(line[:width].rstrip() for line in lines)


# -- choosing ----------------------------------------------------------------------------------------------------------


def most_telling(conversations: list[Conversation], most: int) -> list[Conversation]:
    """Those that failed, then those still open, then those reset, then the latest; in the order of their numbers."""

    def dullness(conversation: Conversation) -> tuple[bool, bool, bool, int]:
        return (
            not conversation.failures,
            not conversation.is_open,
            conversation.close_kind == "fin",
            -conversation.number,
        )

    return sorted(sorted(conversations, key=dullness)[: max(1, most)], key=lambda c: c.number)


def _shares(needs: list[int], room: int) -> list[int]:
    """Divide ``room`` lines: who needs little gets it all, the others get equal parts of the rest."""
    shares = [0] * len(needs)
    left = room
    order = sorted(range(len(needs)), key=needs.__getitem__)
    for position, index in enumerate(order):
        shares[index] = min(needs[index], left // (len(needs) - position))
        left -= shares[index]
    return shares


def _shortened(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most:
        return lines
    # The header says who and how; the end says more about a failure than the beginning does.
    head = max(1, (most - 1) // 3)
    tail = most - 1 - head
    left_out = f"  ... {len(lines) - head - tail} lines left out ..."
    return [*lines[:head], left_out, *(lines[-tail:] if tail else ())]


# -- lines -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """Events that are shown as one: pieces of one stream in the same direction, with nothing between them."""

    events: tuple[Event, ...]

    @property
    def first(self) -> Event:
        return self.events[0]


def _blocks(events: Iterable[Event]) -> Iterator[_Block]:
    gathered: list[Data] = []
    for event in events:
        if gathered and not (isinstance(event, Data) and event.direction == gathered[0].direction):
            yield _Block(tuple(gathered))
            gathered = []
        if isinstance(event, Data):
            gathered.append(event)
        else:
            yield _Block((event,))
    if gathered:
        yield _Block(tuple(gathered))


def _conversation_lines(conversation: Conversation, events: list[Event], width: int, most: int) -> list[str]:
    header = _header(conversation)
    lines = [header] if len(header) <= width else [_ends(conversation), f"   {_outcome(conversation)}"]
    rows = max(8, most // 4)
    for block in _blocks(event for event in events if not isinstance(event, Connect)):
        lines += _event_lines(block, width, rows)
    return lines


def _header(conversation: Conversation) -> str:
    return f"{_ends(conversation)}  {_outcome(conversation)}"


def _ends(conversation: Conversation) -> str:
    server = f" -> {format_address(conversation.server)}" if conversation.server else ""
    return f"#{conversation.number} {format_address(conversation.client)}{server}"


def _outcome(conversation: Conversation) -> str:
    up, down = conversation.upstream_total, conversation.downstream_total
    lasted = (
        "" if conversation.closed is None else f" after {conversation.closed - conversation.opened:.6f} s"
    )
    return f"{conversation.state}{lasted}; {_size(up)} up, {_size(down)} down"


def _event_lines(block: _Block, width: int, rows: int) -> list[str]:
    event = block.first
    time = f"{event.time:10.6f}"
    if isinstance(event, (Data, Datagram)):
        return _data_lines(block, time, width, rows)
    mark, text = _mark_and_text(event)
    return [f"{time} {mark} {text}"]


def _data_lines(block: _Block, time: str, width: int, rows: int) -> list[str]:
    events = [event for event in block.events if isinstance(event, (Data, Datagram))]
    data = b"".join(event.data for event in events)
    arrow = _ARROW[events[0].direction]
    if not data:
        return [f"{time} {arrow} (an empty datagram)"]
    lines = hexdump(data, width=width - _MARGIN, max_lines=rows)
    lines[0] = f"{time} {arrow} {lines[0]}"
    lines[1:] = [f"{'':{_MARGIN}}{line}" for line in lines[1:]]
    if len(events) > 1 or len(lines) > 2:
        pieces = f" in {len(events)} pieces until {events[-1].time:.6f}" if len(events) > 1 else ""
        lines.append(f"{'':{_MARGIN}}({_size(len(data))}{pieces})")
    return lines


def _mark_and_text(event: Event) -> tuple[str, str]:
    if isinstance(event, HalfClose):
        return _HALF[event.by], f"{event.by}: finished sending (FIN)"
    if isinstance(event, Close):
        return _close_mark_and_text(event)
    if isinstance(event, Gap):
        return _ARROW[event.direction], f"... {_size(event.size)} not kept ..."
    if isinstance(event, Failure):
        return "!!!", f"{_one_line(event.where)}: {_error(event)}"
    if isinstance(event, Note):
        return " * ", _one_line(event.text)
    return "   ", f"connected from {format_address(event.client)}" if isinstance(event, Connect) else repr(
        event
    )


def _close_mark_and_text(event: Close) -> tuple[str, str]:
    who = event.by or "system"
    if event.how == "rst":
        return _RESET.get(who, "-X-"), f"{who}: reset (RST)"
    if event.how == "timeout":
        return "-X-", f"{who}: given up (timeout)"
    if event.how == "forced":
        return "-X-", f"{who}: closed by force"
    return _HALF.get(who, "-|-"), f"{who}: closed (FIN)"


# -- words -------------------------------------------------------------------------------------------------------------


def _title(transcript: Transcript, conversations: list[Conversation]) -> str:
    still = sum(conversation.is_open for conversation in conversations)
    open_now = f", {still} open" if still else ""
    return f"{_conversations(len(conversations))}{open_now}{_failure_count(len(transcript.failures))}"


def _summary_line(conversation: Conversation) -> str:
    up, down = conversation.upstream, conversation.downstream
    last = "".join(
        f"; last {way} {preview(stream[-40:])}" for way, stream in (("up", up), ("down", down)) if stream
    )
    return f"  {_header(conversation)}{last}"


def _others(conversations: list[Conversation]) -> str:
    states = Counter(conversation.state for conversation in conversations)
    kinds = ", ".join(f"{count} {state}" for state, count in states.most_common(4))
    return f"{len(conversations)} more ({kinds})"


def _were(count: int) -> str:
    return f"{'was' if count == 1 else 'were'} {_conversations(count)}"


def _conversations(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def _failure_count(count: int) -> str:
    return f", {count} failure{'' if count == 1 else 's'}" if count else ""


def _error(failure: Failure) -> str:
    return shorten_lines(
        _one_line(f"{failure.type_name}: {failure.message}" if failure.message else failure.type_name)
    )


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _size(count: int) -> str:
    return f"{count:,} B"

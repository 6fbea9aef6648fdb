"""Secrets are taken out of a recording before any of it reaches the disk, and may be anything when it is replayed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from .._support import UsageError
from ..transcript import Data, Datagram, Direction, Event, Failure, Gap, Note

__all__ = ("SECRETS", "Scrub", "Scrubbing", "scrub_events")


@dataclass(frozen=True, slots=True)
class Scrub:
    """Something that is not to be written down.

    Attributes:
        pattern: What it looks like. If it has a group that is named ``secret``, that part alone is replaced.
        replacement: What stands in its place.
    """

    pattern: re.Pattern[bytes]
    replacement: bytes = b"***"

    def found(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets begin and end."""
        part = "secret" if "secret" in self.pattern.groupindex else 0
        for match in self.pattern.finditer(data):
            start, end = match.span(part)
            if start < end:
                yield start, end


SECRETS: Mapping[str, Scrub] = MappingProxyType(
    {
        "http": Scrub(
            re.compile(
                rb"(?im:^(?:(?:proxy-)?authorization|cookie|set-cookie|x-api-key):[ \t]*)(?P<secret>[^\r\n]*)"
            )
        ),
        "mail": Scrub(
            re.compile(rb"(?im:^(?:[\w.]+ )?(?:auth(?:enticate)? \w+|pass|login \S+) )(?P<secret>[^\r\n]*)")
        ),
        "redis": Scrub(re.compile(rb"(?i:\$4\r\nauth\r\n)(?P<secret>(?:\$\d+\r\n[^\r\n]*\r\n)+?)(?=\*|\Z)")),
    }
)
"""Scrubs for what is secret in well-known protocols, by name."""

Scrubbing: TypeAlias = "Iterable[Scrub | re.Pattern[bytes] | bytes | str]"
"""Scrubs; patterns, compiled or not; or names of `SECRETS`."""


def scrubs_of(scrubbing: Scrubbing) -> tuple[Scrub, ...]:
    """Whatever stands for scrubs, as scrubs.

    Raises:
        UsageError: A pattern is none, or a name is not known.
    """
    return tuple(map(_scrub, scrubbing))


def _scrub(what: Scrub | re.Pattern[bytes] | bytes | str) -> Scrub:
    if isinstance(what, Scrub):
        return what
    if isinstance(what, str):
        if what not in SECRETS:
            raise UsageError(
                f"scrub: there is nothing named {what!r}; there is {', '.join(SECRETS)}; patterns are bytes"
            )
        return SECRETS[what]
    try:
        pattern = re.compile(what)
    except (re.error, TypeError) as error:
        raise UsageError(f"scrub: {what!r} is no pattern over bytes: {error}") from None
    if not isinstance(pattern.pattern, bytes):
        raise UsageError(f"scrub: a pattern is over bytes, as in rb'...', not {pattern.pattern!r}")
    return Scrub(pattern)


def scrub_events(events: Iterable[Event], scrubbing: Scrubbing) -> list[Event]:
    """The events without secrets: what passed, notes, and what is told of failures.

    A secret that came in several pieces is found as well, and its replacement stands in the first of them.

    Raises:
        UsageError: A pattern is none, or a name is not known.
    """
    scrubs = scrubs_of(scrubbing)
    found = list(events)
    if not scrubs:
        return found
    for positions in _streams(found):
        pieces = [event.data for p in positions if isinstance(event := found[p], (Data, Datagram))]
        for position, data in zip(positions, _scrubbed(pieces, scrubs), strict=True):
            event = found[position]
            assert isinstance(event, (Data, Datagram))
            found[position] = replace(event, data=data)
    return [
        _without_words(event, scrubs) for event in found if not (isinstance(event, Data) and not event.data)
    ]


def _streams(events: list[Event]) -> Iterator[list[int]]:
    """The events that hold one stretch of one stream, by their numbers; each datagram is one."""
    open_streams: dict[tuple[int, Direction], list[int]] = {}
    for position, event in enumerate(events):
        if isinstance(event, Datagram):
            yield [position]
        elif isinstance(event, Data):
            open_streams.setdefault((event.connection, event.direction), []).append(position)
        elif isinstance(event, Gap):
            yield open_streams.pop((event.connection, event.direction), [])
    yield from open_streams.values()


def _scrubbed(pieces: list[bytes], scrubs: tuple[Scrub, ...]) -> list[bytes]:
    for scrub in scrubs:
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + len(piece))
        changed = [bytearray(piece) for piece in pieces]
        for start, end in reversed(list(scrub.found(b"".join(pieces)))):
            first = bisect_right(starts, start) - 1
            for index in range(len(pieces) - 1, first - 1, -1):
                low, high = max(start, starts[index]), min(end, starts[index + 1])
                if low < high:
                    changed[index][low - starts[index] : high - starts[index]] = (
                        scrub.replacement if index == first else b""
                    )
        pieces = [bytes(piece) for piece in changed]
    return pieces


def _without_words(event: Event, scrubs: tuple[Scrub, ...]) -> Event:
    if isinstance(event, Note):
        return replace(event, text=_text(event.text, scrubs))
    if isinstance(event, Failure):
        return replace(
            event, message=_text(event.message, scrubs), traceback_text=_text(event.traceback_text, scrubs)
        )
    return event


def _text(text: str, scrubs: tuple[Scrub, ...]) -> str:
    (data,) = _scrubbed([text.encode("utf-8", "surrogateescape")], scrubs)
    return data.decode("utf-8", "replace")


def relaxed(
    pieces: Sequence[bytes | re.Pattern[bytes]], scrubs: tuple[Scrub, ...]
) -> list[bytes | re.Pattern[bytes]]:
    """What recorded requests match, if the secrets that were taken out of them may be anything.

    Args:
        pieces: What one client has sent, in order: a secret is known by what stands around it.
        scrubs: What was scrubbed.
    """
    whole = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    spans = sorted(
        {span for scrub in scrubs for span in scrub.found(whole) if whole[slice(*span)] == scrub.replacement}
    )
    found: list[bytes | re.Pattern[bytes]] = []
    at = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            inside = [
                (start - at, end - at) for start, end in spans if at <= start and end <= at + len(piece)
            ]
            at += len(piece)
            found.append(_relaxed(piece, inside) if inside else piece)
        else:
            found.append(piece)
    return found


def _relaxed(piece: bytes, spans: list[tuple[int, int]]) -> re.Pattern[bytes]:
    source, at = b"", 0
    for start, end in spans:
        source += re.escape(piece[at:start]) + rb"[^\r\n]*?"
        at = end
    return re.compile(source + re.escape(piece[at:]))

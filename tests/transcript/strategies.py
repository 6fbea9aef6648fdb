"""Transcripts of every kind, for Hypothesis."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings, strategies as st

from servertest.transcript import Close, Connect, Data, Datagram, Event, Failure, Gap, HalfClose, Note

# The same examples in every run, so that a run tells about the code alone. To look for new ones, say how many:
# SERVERTEST_EXAMPLES=10000 pytest tests/transcript
_WANTED = os.environ.get("SERVERTEST_EXAMPLES")
examples = settings(
    max_examples=int(_WANTED or 60),
    derandomize=_WANTED is None,
    database=None,
    deadline=None,
    print_blob=True,
)

LONG = st.integers(0, 600).map(lambda size: b"x" * size)
LINES = st.lists(
    st.sampled_from([b"GET / HTTP/1.0\r\n", b"\r\n", b"hello\n", b'say "hi" \\o/\n']), max_size=6
).map(b"".join)
CONTENT = st.binary(max_size=200) | LINES | LONG | st.tuples(LINES, st.binary(max_size=100)).map(b"".join)

PORT = st.integers(0, 65535)
NAME = st.text(max_size=12)
ADDRESS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.tuples(st.sampled_from(["127.0.0.1", "localhost", "a-b.example", "-", "", "::1", "%"]), PORT),
    st.tuples(
        st.sampled_from(["::1", "fe80::1%eth0", "[", "127.0.0.1"]), PORT, st.integers(0, 9), st.integers(0, 9)
    ),
    NAME,
    st.binary(max_size=12),
    st.binary(max_size=12).map(b"\0".__add__),
    st.tuples(st.integers(-(10**17), 10**17), NAME, st.none(), st.binary(max_size=5)),
)

TIME = st.floats(0, 1e6, allow_nan=False) | st.integers(0, 10_000_000).map(
    lambda microseconds: microseconds / 1e6
)
DIRECTION = st.sampled_from(["upstream", "downstream"])
SIDE = st.sampled_from(["client", "server"])
KIND = st.sampled_from(["fin", "rst", "timeout", "forced"])
TEXT = st.text(max_size=20)

# Some numbers stand for streams, the others for datagram peers, as in every transcript.
STREAM = st.integers(1, 3)
PEER = st.integers(4, 6)


def event(time: st.SearchStrategy[float] = TIME) -> st.SearchStrategy[Event]:
    """Any event at such a time."""
    return st.one_of(
        st.builds(Connect, time, STREAM, ADDRESS, ADDRESS),
        st.builds(Data, time, STREAM, DIRECTION, CONTENT.filter(bool)),
        st.builds(Datagram, time, PEER, DIRECTION, CONTENT, ADDRESS),
        st.builds(Gap, time, STREAM | PEER, DIRECTION, st.integers(1, 10**12)),
        st.builds(HalfClose, time, STREAM, SIDE),
        st.builds(Close, time, STREAM, SIDE | st.none(), KIND),
        st.builds(Failure, time, st.integers(0, 6), TEXT, TEXT, TEXT, TEXT),
        st.builds(Note, time, st.integers(0, 6), TEXT),
    )


EVENTS = st.lists(event(), max_size=12)


def _in_order_with_one_gap_each(events: list[Event]) -> list[Event]:
    kept = []
    gaps = set()
    for found in sorted(events, key=lambda e: e.time):
        if isinstance(found, Gap):
            if (found.connection, found.direction) in gaps:
                continue
            gaps.add((found.connection, found.direction))
        kept.append(found)
    return kept


# As a transcript of its own making holds them.
RECORDED = EVENTS.map(_in_order_with_one_gap_each)

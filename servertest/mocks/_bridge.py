"""Connections, and peers of datagrams, that are passed on to a server, where no script is there to play for them."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ._acts import Ending
from ._stream_actor import StreamActor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..clients import DatagramClient

__all__ = ()

_LARGEST = 65_536


class Bank:
    """One side of a bridge: stands where else a performance does, and hands everything to the other side."""

    due: float | None = None
    hung = False
    full = False

    def __init__(self) -> None:
        self.other: Bank
        self.actor: StreamActor
        self.came = 0
        self.over = False
        self.finished = False
        self._out: deque[bytes | Ending] = deque()

    def open(self, now: float) -> None:
        """Nothing is said of its own accord."""

    def receive(self, data: bytes, now: float) -> None:
        """Bytes have come from this side."""
        self.came += len(data)
        self._hand(data)

    def finish(self, now: float) -> None:
        """This side has finished sending."""
        self.finished = True
        self._hand(Ending.FINISH)
        if self.other.finished:
            self._hand(Ending.CLOSE)
            self.say(Ending.CLOSE)

    def cut(self, now: float) -> None:
        """This side was cut off."""
        self._hand(Ending.RESET)

    def refresh(self, now: float) -> None:
        """What there is to be said is taken anyway."""

    def take(self, now: float) -> Sequence[bytes | Ending]:
        """What is to be said on this side."""
        out = []
        while self._out:
            out.append(self._out.popleft())
        self.over = self.over or Ending.CLOSE in out or Ending.RESET in out
        return out

    def say(self, what: bytes | Ending) -> None:
        """Have this side say something; from any thread."""
        self._out.append(what)
        self.actor.wake()

    def _hand(self, what: bytes | Ending) -> None:
        self.other.say(what)


class Ferry:
    """Hands the datagrams of one peer to a server, and what it answers back; stands where else a performance does.

    Args:
        far: The client that the server knows this peer as.
    """

    due: float | None = None

    def __init__(self, far: DatagramClient) -> None:
        self.far = far.socket
        self._client = far

    def open(self, now: float) -> None:
        """Nothing is said of its own accord."""

    def receive(self, data: bytes, now: float) -> None:
        """A datagram has come from the peer."""
        with contextlib.suppress(OSError):  # it is lost, as datagrams may be
            self.far.send(data)

    def refresh(self, now: float) -> None:
        """What there is to be said is taken anyway."""

    def take(self, now: float) -> Sequence[bytes]:
        """What the server has answered."""
        answers = []
        with contextlib.suppress(OSError):  # nothing more, or nobody is there
            while True:
                answers.append(self.far.recv(_LARGEST))
        return answers

    def close(self) -> None:
        """End it."""
        self._client.close()


def bridge(near: Any, far: Any, progressed: Callable[[], object]) -> tuple[StreamActor, Callable[[], None]]:
    """Pass everything on between two connected sockets.

    Args:
        near: The client's connection, which is left to be closed by its server.
        far: The connection to the server, which is closed here.
        progressed: Called after anything has happened.

    Returns:
        What plays the near side, and a function that does it, to the end.
    """
    here, there = Bank(), Bank()
    here.other, there.other = there, here
    here.actor = StreamActor(near, here, progressed)
    there.actor = StreamActor(far, there, lambda: None)
    thread = threading.Thread(target=there.actor.play, name="servertest bridge", daemon=True)

    def play() -> None:
        thread.start()
        try:
            here.actor.play()
        finally:
            there.actor.stop()
            thread.join()
            far.close()

    return here.actor, play

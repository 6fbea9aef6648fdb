"""What connections and peers that pass through a relay have in common: a number, two directions, faults, an end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from ..faults import Decision, start

if TYPE_CHECKING:
    from .._support import Transport
    from ..faults import Plan
    from ..transcript import Direction
    from ._line import StageMaker
    from ._relay import Relay
    from ._relay_poller import Watched

__all__ = ("End", "Passage", "Tell")

Tell: TypeAlias = Callable[[Decision], None]
"""Is told each decision of a fault, in the relay's thread."""

End: TypeAlias = Literal["finished", "reset", "forced"]


class OneWay(Protocol):
    """One direction."""

    direction: Direction
    stages: dict[str, StageMaker]

    def change(self, stages: dict[str, StageMaker], now: float) -> None:
        """Let these faults be at work from now on."""


class Passage:
    """Something that passes through a relay, in two directions.

    Its methods are for the relay's thread (see `Relay.call`); what it says may be read from any.

    Args:
        relay: The relay.
        client: The end towards the client.
        server: The end towards the server.
        seed: Where the faults' random numbers come from.
        number: Its number, from 1.
        tell: Is told each decision of a fault.
        on_end: Is called with it when it has ended; None for nobody.
        opened: When it was made; now, if not given.

    Attributes:
        relay: The relay.
        client: The end towards the client.
        server: The end towards the server.
        upstream: From client to server.
        downstream: From server to client.
        number: Its number, from 1: part of what faults draw their random numbers from.
        opened: When it was made, on the clock of `time.monotonic`.
        ended: When it ended; None while it lives.
        end: How: "finished" in order, "reset" by a RST, or "forced"; None while it lives.
        error: What a fault or a trigger raised, if that is what ended it.
        on_drained: Is called with it when nothing waits for a sink any more, or it has ended; None for nobody.
    """

    __slots__ = (
        "__weakref__",
        "_on_end",
        "_seed",
        "_tell",
        "client",
        "downstream",
        "end",
        "ended",
        "error",
        "number",
        "on_drained",
        "opened",
        "relay",
        "server",
        "upstream",
    )

    transport: ClassVar[Transport]
    way: ClassVar[Callable[..., Any]]
    """What a direction is: made of this, its name, its source and its sink."""

    client: Any
    server: Any
    upstream: Any
    downstream: Any

    def __init__(
        self,
        relay: Relay,
        client: Any,
        server: Any,
        *,
        seed: int | str,
        number: int,
        tell: Tell,
        on_end: Callable[[Any], object] | None,
        opened: float | None = None,
    ) -> None:
        self.relay = relay
        self.number = number
        self.opened = monotonic() if opened is None else opened
        self.ended: float | None = None
        self.end: End | None = None
        self.error: Exception | None = None
        self.on_drained: Callable[[Any], object] | None = None
        self._seed = seed
        self._tell = tell
        self._on_end = on_end
        self.client = client
        self.server = server
        self.upstream = self.way(self, "upstream", client, server)
        self.downstream = self.way(self, "downstream", server, client)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number}: {self.end or 'open'}>"

    @property
    def directions(self) -> tuple[Any, Any]:
        """Both ways."""
        return self.upstream, self.downstream

    @property
    def watched(self) -> list[tuple[int, Watched]]:
        """The descriptors that the relay watches for it, and who is to be told."""
        raise NotImplementedError

    def begin(self, plans: Mapping[str, Plan]) -> None:
        """Carry from now on, through these faults."""
        raise NotImplementedError

    def reset(self) -> None:
        """Cut it off."""
        raise NotImplementedError

    def force(self) -> None:
        """End it at once, and yet in order."""
        raise NotImplementedError

    def drain(self) -> None:
        """Carry what has arrived by now, as far as sinks take it and faults let it."""
        raise NotImplementedError

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits for a sink to take it."""
        return True

    def abandon(self) -> None:
        """In a forked child: close the copies of its sockets, which does nothing to the connections."""
        raise NotImplementedError

    # -- faults

    def add_faults(self, key: str, faults: Plan) -> None:
        """Let these faults be at work from now on, behind those that are.

        Args:
            key: What to replace or remove them by.
            faults: The faults.
        """
        self._change(lambda way: {**way.stages, **self._start(key, faults, way)})

    def replace_faults(self, key: str, faults: Plan) -> None:
        """Put others in the place of the faults of this key. Those that are the same go on as they were."""

        def stages(way: OneWay) -> dict[str, StageMaker]:
            made: dict[str, StageMaker] = {}
            place = False
            for name, maker in way.stages.items():
                if _key_of(name) != key:
                    made[name] = maker
                elif not place:
                    place = True
                    made.update(self._start(key, faults, way))
            return made if place else {**made, **self._start(key, faults, way)}

        self._change(stages)

    def remove_faults(self, key: str) -> None:
        """Take the faults of this key away; what they held goes on at once."""
        self._change(lambda way: {name: make for name, make in way.stages.items() if _key_of(name) != key})

    def _begin_faults(self, plans: Mapping[str, Plan]) -> None:
        """The faults with which it begins."""
        if any(plans.values()):
            self._change(
                lambda way: {
                    name: make
                    for key, faults in plans.items()
                    for name, make in self._start(key, faults, way).items()
                }
            )

    def _change(self, stages_for: Callable[[OneWay], dict[str, StageMaker]]) -> None:
        now = monotonic()
        for way in self.directions:
            if self.end is None:
                stages = stages_for(way)
                if stages or way.stages:
                    way.change(stages, now)

    def _start(self, key: str, faults: Plan, way: OneWay) -> dict[str, StageMaker]:
        started = start(
            faults,
            seed=self._seed,
            connection=self.number,
            direction=way.direction,
            transport=self.transport,
            opened=self.opened,
            note=self._tell,
        )
        return {f"{key}\0{name}": make for name, make in started}

    # -- ends

    def fail(self, error: Exception) -> None:
        """Something has raised that should not: cut it off, and keep the error."""
        self.error = error
        self.relay.errors.append(error)
        self.reset()

    def _over(self, how: End) -> None:
        # Whoever sees what the peers see finds this in place already: it is also set before their sockets are closed.
        self.end = how
        self.ended = monotonic()
        self.relay.forget(self)
        if self._on_end is not None:
            self._on_end(self)
        if self.on_drained is not None:
            self.on_drained(self)


def _key_of(name: str) -> str:
    return name.partition("\0")[0]

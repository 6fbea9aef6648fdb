"""What is measured: each figure has two sides, which are measured in turns, and a target for the ratio between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tests.bench import _load as load
from tests.bench._sampling import Open, Spec, importing, inside, rate, transfer

__all__ = ("Figure", "Side", "Target", "figures")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a ratio: what it is called, and how it is opened to be sampled."""

    label: str
    open: Open


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a figure: a ratio to the other side or, with `absolute`, a value of ours in seconds."""

    limit: float
    at_most: bool = False
    absolute: bool = False

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{sign} {self.limit * 1e3:g} ms" if self.absolute else f"{sign} {self.limit:g}x"

    def is_met(self, ours: float, ratio: float | None) -> bool:
        """Whether these medians meet it."""
        value = ours if self.absolute else ratio
        return value is not None and (value <= self.limit if self.at_most else value >= self.limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. Each of the `rounds` opens both sides anew and takes `samples` of each."""

    name: str
    title: str
    unit: str  # "s", "B/s", or something per second
    ours: Side
    other: Side | None
    target: Target
    rounds: int = 3
    samples: int = 7


def figures(module: str, against: str) -> list[Figure]:
    """All figures of `module` whose classes it has, against the module that it stands in for."""
    ours = import_module(module)
    return [
        *_stopping(module, against),
        *_starting(module, against),
        *(
            figure
            for figure in _serving(module, against)
            if hasattr(ours, figure.ours.label.rpartition(".")[2])
        ),
        *(_selecting(module) if hasattr(ours, "SelectorTCPServer") else ()),
        Figure(
            "import",
            "import of the module",
            "s",
            Side(module, importing(module)),
            Side(against, importing(against)),
            Target(1.2, at_most=True),
            rounds=25,
            samples=1,
        ),
    ]


def _server_classes(module: Any) -> dict[str, Any]:
    """The predefined server classes of a module by name."""
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {
        name: cls
        for name, cls in sorted(found.items())
        if isinstance(cls, type) and issubclass(cls, module.BaseServer) and cls is not module.BaseServer
    }


def _stopping(module: str, against: str) -> Iterator[Figure]:
    """How long it takes to be rid of a server."""
    other = import_module(against)
    for name in _server_classes(import_module(module)):
        yield Figure(
            f"stop-{name}",
            "shutdown() + server_close()",
            "s",
            Side(f"{module}.{name}", inside("stop", module, name, 20)),
            Side(f"{against}.{name}", inside("stop", against, name, 1)) if hasattr(other, name) else None,
            Target(0.001, at_most=True, absolute=True),
            rounds=5,
            samples=1,
        )


def _starting(module: str, against: str) -> Iterator[Figure]:
    """How long it takes to have one."""
    for name in ("TCPServer", "ThreadingTCPServer"):
        yield Figure(
            f"start-{name}",
            "start to first reply",
            "s",
            Side(f"{module}.{name}", inside("start", module, name, 20)),
            Side(f"{against}.{name}", inside("start", against, name, 20)),
            Target(1.0, at_most=True),
            rounds=11,
            samples=1,
        )


@dataclass(frozen=True, slots=True)
class _Pair:
    """The same work for a class of ours and for one of the module that we are compared with."""

    module: str
    against: str

    def figure(
        self,
        name: str,
        title: str,
        unit: str,
        target: float,
        classes: str,
        handler: str,
        way: Callable[[Spec], Open],
        *,
        rounds: int = 3,
    ) -> Figure:
        ours, _, other = classes.partition("/")
        return Figure(
            name,
            title,
            unit,
            Side(f"{self.module}.{ours}", way(Spec(self.module, ours, handler))),
            Side(f"{self.against}.{other or ours}", way(Spec(self.against, other or ours, handler))),
            Target(target),
            rounds=rounds,
        )

    def connecting(
        self, name: str, classes: str, target: float, count: int, *, clients: int = 16, idle: int = 0
    ) -> Figure:
        return self.figure(
            name,
            f"{clients} clients{f', {idle:,} connections idle' if idle else ''}".replace(
                "1 clients", "1 client"
            ),
            "conn/s",
            target,
            classes,
            "echo",
            lambda spec: rate(load.connections, count, clients, spec, idle=idle),
            rounds=2 if idle else 3,
        )


def _serving(module: str, against: str) -> Iterator[Figure]:
    """How fast requests are served."""
    pair = _Pair(module, against)
    yield pair.connecting("tcp", "TCPServer", 1.0, 1500, clients=1)
    yield pair.figure(
        "udp",
        "16 clients",
        "datagrams/s",
        1.1,
        "UDPServer",
        "datagram",
        lambda spec: rate(load.datagrams, 8000, 16, spec),
    )
    # With many short threads for nearly a second each: the system takes a tenth of one until it has spread them over its processors.
    yield pair.connecting("threading", "ThreadingTCPServer", 1.2, 8000)
    yield pair.connecting("threading-idle", "ThreadingTCPServer", 4.0, 500, idle=4000)
    yield pair.connecting("forking", "ForkingTCPServer", 1.0, 500)
    yield pair.connecting("pool", "ThreadPoolTCPServer/ThreadingTCPServer", 3.0, 8000)
    yield pair.connecting("prefork", "PreForkTCPServer/ForkingTCPServer", 8.0, 300)
    yield pair.figure(
        "bulk-upload",
        "bulk upload",
        "B/s",
        1.0,
        "TCPServer",
        "upload",
        lambda spec: transfer(load.upload, 200, spec),
    )
    yield pair.figure(
        "bulk-download",
        "bulk download",
        "B/s",
        1.0,
        "TCPServer",
        "download",
        lambda spec: transfer(load.download, 200, spec),
    )


def _selecting(module: str) -> Iterator[Figure]:
    """One thread for very many connections, and the same from asyncio."""
    spec = Spec(module, "SelectorTCPServer", "lines")
    label = f"{module}.SelectorTCPServer"
    yield Figure(
        "selector-idle",
        "16 clients, 10,000 connections idle; against none idle",
        "conn/s",
        Side(label, rate(load.connections, 1000, 16, spec, idle=10000)),
        Side(f"{label}, empty", rate(load.connections, 1000, 16, spec)),
        Target(0.8),
        rounds=2,
    )
    for name, generator, unit, count in (
        ("requests", load.requests, "requests/s", 6000),
        ("connections", load.connections, "conn/s", 1000),
    ):
        yield Figure(
            f"selector-{name}",
            f"16 clients, {name}; against asyncio's streams",
            unit,
            Side(label, rate(generator, count, 16, spec)),
            Side("asyncio", rate(generator, count, 16, Spec("asyncio"))),
            Target(1.0),
        )

"""Networks as testers name them, from published figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from ._bandwidth import Bandwidth
from ._fault import Fault, Plan, downstream, upstream
from ._latency import Latency
from ._loss import GilbertElliott

if TYPE_CHECKING:
    from .._support import Transport

__all__ = ("PRESETS", "Preset", "presets")

_KBIT = 125
_WEBPAGETEST = "WebPageTest, settings/connectivity.ini.sample"
_GRPC = "grpc-go, benchmark/latency"


@dataclass(frozen=True, slots=True)
class Preset:
    """A network with a name.

    Attributes:
        name: What it is called in text.
        plan: Its faults.
        about: What it is.
        source: Where the figures are from.
        carried_by: The transports for which it is made.
    """

    name: str
    plan: Plan
    about: str
    source: str
    carried_by: frozenset[Transport] = frozenset({"stream", "datagram"})


def _network(
    name: str, down: float, up: float, round_trip: float, about: str, source: str = _WEBPAGETEST
) -> Preset:
    """A network of so many kbit/s each way, and so many milliseconds there and back."""
    plan = _limits(down, up) | Latency(round_trip / 2000)
    return Preset(
        name, plan, f"{about}: {down:g} kbit/s down, {up:g} up, {round_trip:g} ms there and back", source
    )


def _limits(down: float, up: float) -> Plan:
    if down == up:
        return Plan.of(Bandwidth(down * _KBIT))
    return upstream(Bandwidth(up * _KBIT)) | downstream(Bandwidth(down * _KBIT))


def _lossy(
    name: str, rates: tuple[float, float], stream: Plan, datagrams: tuple[Fault, ...], about: str, source: str
) -> tuple[Preset, Preset]:
    """A network that loses: what is lost of a stream arrives late, for TCP sends it again."""
    limits = _limits(*rates)
    lossy = limits
    for fault in datagrams:
        lossy |= fault
    return (
        Preset(
            name,
            limits | stream,
            f"{about}; streams: what is lost is sent again, and late",
            source,
            frozenset({"stream"}),
        ),
        Preset(
            f"{name}_datagrams",
            lossy,
            f"{about}; datagrams: what is lost is lost",
            source,
            frozenset({"datagram"}),
        ),
    )


PRESETS: tuple[Preset, ...] = (
    _network("lan", 100_000, 100_000, 4, "a local network", f"{_GRPC}: LAN, 2 ms each way"),
    _network("wan", 20_000, 20_000, 60, "another city", f"{_GRPC}: WAN, 30 ms each way"),
    _network(
        "longhaul", 1_000_000, 1_000_000, 400, "another continent", f"{_GRPC}: Longhaul, 200 ms each way"
    ),
    _network("fiber", 20_000, 5_000, 4, "fibre to the home", f"{_WEBPAGETEST}: FIOS"),
    _network("cable", 5_000, 1_000, 28, "television cable"),
    _network("dsl", 1_500, 384, 50, "telephone line"),
    _network("dial_up", 49, 30, 120, "56K modem"),
    _network("lte", 12_000, 12_000, 70, "good mobile network"),
    _network("4g", 9_000, 9_000, 170, "mobile network"),
    _network("fast_3g", 1_600, 768, 150, "old mobile network, in a good place"),
    _network("3g", 1_600, 768, 300, "old mobile network"),
    _network("slow_3g", 400, 400, 400, "old mobile network, in a bad place"),
    _network("2g", 280, 256, 800, "very old mobile network"),
    _network("edge", 240, 200, 840, "very old mobile network, improved"),
    _network("gprs", 50, 20, 500, "the oldest mobile network", "Firefox DevTools, throttling profiles: GPRS"),
    _network("wifi", 30_000, 15_000, 2, "good Wi-Fi", "Firefox DevTools, throttling profiles: Wi-Fi"),
    *_lossy(
        "lossy_wifi",
        (30_000, 15_000),
        Plan.of(Latency(0.01, jitter=0.04, distribution="pareto", correlation=0.25)),
        (GilbertElliott(p=0.02, r=0.3), Latency(0.01, jitter=0.01, distribution="pareto", correlation=0.25)),
        "Wi-Fi through two walls: 6 % lost, in bursts of three or so",
        "rates: Firefox DevTools, Wi-Fi; bursts: the Gilbert model with a mean burst of 1/r, as netem-loss describes it; the share is ours",
    ),
    *_lossy(
        "satellite",
        (10_000, 1_000),
        Plan.of(Latency(0.28, jitter=0.02, distribution="normal")),
        (GilbertElliott(p=0.001, r=0.2), Latency(0.28, jitter=0.02, distribution="normal")),
        "a geostationary satellite: 280 ms each way",
        "RFC 2488, section 2: up to 279 ms each way, bursts of errors; the rates are ours",
    ),
)
"""All presets."""


@cache
def presets(transport: Transport | None = None) -> Mapping[str, Plan]:
    """The presets by name; in text, ``3g`` or ``preset:3g``.

    Args:
        transport: Only those that are made for it; None for all.
    """
    chosen = (preset for preset in PRESETS if transport is None or transport in preset.carried_by)
    return MappingProxyType({preset.name: preset.plan for preset in chosen})

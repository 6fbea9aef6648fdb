"""What has passed and what was hit, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._managed import ManagedProxy

__all__ = ("CONTENT_TYPE", "metrics")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ABOUT = {
    "toxiproxy_proxy_received_bytes_total": "Bytes received, by the direction in which they go.",
    "toxiproxy_proxy_sent_bytes_total": "Bytes delivered, by the direction in which they go.",
    "servertest_proxy_fault_hits_total": "Decisions that faults have made.",
}


def metrics(proxies: Iterable[ManagedProxy]) -> str:
    """All counters. The first two are Toxiproxy's."""
    samples: dict[str, list[str]] = {name: [] for name in _ABOUT}
    for proxy in proxies:
        for name, line in _samples(proxy):
            samples[name].append(line)
    return "".join(_family(name, lines) for name, lines in samples.items())


def _family(name: str, lines: list[str]) -> str:
    return "".join(
        f"{line}\n" for line in (f"# HELP {name} {_ABOUT[name]}", f"# TYPE {name} counter", *lines)
    )


def _samples(proxy: ManagedProxy) -> Iterator[tuple[str, str]]:
    link = proxy.link
    if link is None:
        return
    for direction, counts in sorted(link.passed.items()):
        labels = {
            "direction": direction,
            "listener": proxy.wanted.listen,
            "proxy": proxy.name,
            "upstream": proxy.wanted.upstream,
        }
        for name, count in zip(list(_ABOUT)[:2], counts, strict=True):
            yield name, _sample(name, labels, count)
    for fault, count in sorted(link.hits.items()):
        name = "servertest_proxy_fault_hits_total"
        yield name, _sample(name, {"fault": fault, "proxy": proxy.name}, count)


def _sample(name: str, labels: dict[str, str], value: int) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

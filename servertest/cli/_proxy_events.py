"""What `servertest proxy` prints."""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support import UsageError, format_address
from ._table import print_table

if TYPE_CHECKING:
    from ..faults import Decision, Entry
    from ..proxy import Link, LinkConnection
    from ..proxy.toxiproxy import ApiServer, Collection
    from ..proxy.toxiproxy._managed import ManagedProxy

__all__ = ("Events",)


class Events:
    """Prints, in the main thread, what is told in another.

    Args:
        queue: Carries what is to be printed; None in it ends `print_until_stopped`.
        as_json: Whether everything is a JSON object on a line of its own.
    """

    def __init__(self, queue: SimpleQueue[Any], *, as_json: bool) -> None:
        self._queue = queue
        self._as_json = as_json
        self._started = monotonic()
        self._began = False
        self._reasons: Counter[str] = Counter()

    def watch(self, proxy: ManagedProxy, event: LinkConnection | Decision | None) -> None:
        """Something has happened. It is written down at once, for connections change."""
        if event is not None:
            self._queue.put({**_record(event, self._started), "proxy": proxy.name})
        elif self._began:
            self._queue.put(_listening(proxy))

    def began(self, collection: Collection, api: ApiServer | None) -> None:
        """Say where everything is: the first lines are for programs that start us."""
        self._began = True  # who comes later is told of by `watch`
        for proxy in collection:
            if proxy.enabled:
                self._began_one(proxy)
        if api is not None:
            self._say(
                f"serving the API on {api.url}, seed {collection.seed}",
                {"event": "api", "url": api.url, "seed": collection.seed},
            )

    def _began_one(self, proxy: ManagedProxy) -> None:
        wanted = proxy.wanted
        self._say(
            f"proxying {proxy.name} on {wanted.listen} to {wanted.upstream}, seed {proxy.seed}",
            _listening(proxy),
        )

    def print_until_stopped(self) -> None:
        """Print what is told until somebody says stop."""
        while (event := self._queue.get()) is not None:
            self._tell(event)

    def _tell(self, event: dict[str, Any]) -> None:
        """For programs everything; for people why a connection came to nothing, once for each reason."""
        if self._as_json:
            print(json.dumps(event), flush=True)
        elif reason := event.get("reason"):
            told = f"{event['proxy']}: {reason}"
            if told not in self._reasons:
                print(f"connection {event['connection']} of {told}", file=sys.stderr, flush=True)
            self._reasons[told] += 1

    def ended(self, collection: Collection) -> None:
        """Say what came of it."""
        self._print_the_rest()
        summaries = [_summary(proxy) for proxy in collection]
        if self._as_json:
            print(json.dumps({"event": "stopped", "proxies": summaries}), flush=True)
            return
        rows = [
            (
                each["proxy"],
                hit["fault"],
                hit["text"],
                str(hit["decisions"]),
                str(hit["connections"]),
            )
            for each in summaries
            for hit in each["faults"]
        ]
        if rows:
            print_table(("proxy", "fault", "which is", "hits", "on connections"), rows)
        failed = self._reasons.total()
        print(
            f"stopped after {sum(each['connections'] for each in summaries)} connection(s)"
            + (f", {failed} of which came to nothing" if failed else ""),
            flush=True,
        )

    def tell_errors(self, errors: Iterable[BaseException]) -> bool:
        """Show what broke here; returns whether there was something."""
        told = list(errors)
        for error in told:
            traceback.print_exception(error, file=sys.stderr)
        if told:
            print("servertest: this is a breakage of servertest; please report it.", file=sys.stderr)
        return bool(told)

    def _print_the_rest(self) -> None:
        while True:
            try:
                event = self._queue.get_nowait()
            except Empty:
                return
            if event is not None:
                self._tell(event)

    def _say(self, text: str, event: dict[str, Any]) -> None:
        print(json.dumps(event) if self._as_json else text, flush=True)


def _listening(proxy: ManagedProxy) -> dict[str, Any]:
    wanted = proxy.wanted
    return {
        "event": "listening",
        "proxy": proxy.name,
        "listen": wanted.listen,
        "upstream": wanted.upstream,
        "transport": wanted.transport,
        "seed": proxy.seed,
    }


def _record(event: LinkConnection | Decision, started: float) -> dict[str, Any]:
    from ..faults import Decision

    if isinstance(event, Decision):
        return {
            "event": "decision",
            "time": round(event.time - started, 6),
            "connection": event.connection,
            "direction": event.direction,
            "fault": event.fault,
            "what": event.what,
        }
    return {
        "event": "connection",
        "time": round((event.opened if event.ended is None else event.ended) - started, 6),
        "connection": event.number,
        "client": format_address(event.client),
        "state": event.state,
        **({"reason": event.reason} if event.reason else {}),
    }


def _summary(proxy: ManagedProxy) -> dict[str, Any]:
    link = proxy.link
    if link is None:
        return {"proxy": proxy.name, "connections": 0, "faults": []}
    known = link.connections
    return {
        "proxy": proxy.name,
        "connections": known[-1].number if known else 0,
        "faults": list(_faults(link, known)),
    }


def _faults(link: Link, connections: list[LinkConnection]) -> Iterable[dict[str, Any]]:
    texts = {name: _text(entry) for group in link.fault_groups.values() for name, entry in group.named()}
    for name in {**texts, **link.hits}:
        yield {
            "fault": name,
            "text": texts.get(name, "(taken away)"),
            "decisions": link.hits[name],
            "connections": sum(name in one.hits for one in connections),
        }


def _text(entry: Entry) -> str:
    from ..faults import Plan

    try:
        return Plan((entry,)).text
    except UsageError:
        return str(entry.fault)  # a toxicity has no text

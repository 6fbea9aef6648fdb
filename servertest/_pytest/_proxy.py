"""The `proxy` fixture: a factory of links that ends them all, and what a failing test shows of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._support import HandlerFailed, StillRunning, UsageError
from .._support._keywords import refuse_unknown_keywords
from ..launch import Running
from ..proxy import Proxy
from ..proxy._settings import LINK_KEYWORDS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..faults import Faults
    from ..proxy import Link
    from ._repeat import Turns

__all__ = ("MakeLinks", "link_sections")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class MakeLinks:
    """Makes links to servers and, at the end of its scope, stops them. Call it as you would `servertest.proxy.Proxy.link`."""

    def __init__(
        self,
        timeout: float,
        turns: Turns,
        note: Callable[[Link], object],
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self._timeout = timeout
        self._turns = turns
        self._note = note
        self._around = around
        self._proxy: Proxy | None = None
        self._made: list[Link] = []
        self._complaints: list[str] = []

    @property
    def links(self) -> tuple[Link, ...]:
        """The links made so far, in that order, those that were stopped in the meantime too."""
        return tuple(self._made)

    def __call__(self, upstream: Any, faults: Faults = None, *more: Faults, **options: Any) -> Link:
        """An address that leads to a server, through faults.

        Args:
            upstream: A server that was put up, a mock server, another link, an address, or an address as text.
            faults: What goes wrong, in both directions unless aimed.
            more: Nothing: faults are joined with ``|``.
            options: As for `servertest.proxy.Proxy.link`: seed, listen, tls, ... The seed is made of the run's and the test's
                name, if none is given.

        Returns:
            The link. It is stopped when the fixture ends, or the example of Hypothesis in which it was made.

        Raises:
            UsageError: As by `servertest.proxy.Proxy.link`; or the server is a class, or there are faults without a ``|``.
        """
        refuse_unknown_keywords("proxy", options, LINK_KEYWORDS)
        if more:
            raise UsageError(
                f"proxy: several faults are joined with |: {' | '.join(map(repr, (faults, *more)))}"
            )
        if isinstance(upstream, type):
            raise UsageError(
                f"proxy: {upstream.__name__} is a class, and a link leads to what is up: proxy(serve({upstream.__name__}), ...)"
            )
        options.setdefault("timeout", self._timeout)
        behind = getattr(upstream, "running", None)  # of a mock server
        turn = self._turns.take(self._end)
        faults, options["seed"] = turn.settle(faults, options.get("seed"))
        with self._around():
            if self._proxy is None:
                self._proxy = Proxy()
            made = self._proxy.link(behind if isinstance(behind, Running) else upstream, faults, **options)
        self._made.append(made)
        turn.given_to(made)
        self._note(made)
        return made

    def _end(self, made: Any) -> None:
        """An example of Hypothesis is over: there may be thousands."""
        self._made.remove(made)
        self._stop(made)

    def _stop(self, made: Link) -> None:
        try:
            made.stop()
        except (HandlerFailed, StillRunning) as failure:
            self._complaints.append(str(failure))

    def close(self) -> str:
        """Stop all links, the last one first, whatever the others do.

        Returns:
            What went wrong. Nothing if all is well.
        """
        for made in reversed(self._made):
            self._stop(made)
        if self._proxy is not None:
            try:
                self._proxy.stop(self._timeout)
            except StillRunning as failure:
                self._complaints.append(str(failure))
        return "\n\n".join(self._complaints)


def link_sections(links: Iterable[Link]) -> list[tuple[str, str]]:
    """Title and text for each link of a failed test: what passed, and which fault hit which connection, when."""
    found = []
    for made in links:
        if made.transcript is not None and made.transcript.events:
            found.append((f"servertest transcript of {made}: its clients", made.transcript.render()))
        behind = made.upstream_transcript
        # What a server of ours saw is in its own transcript.
        if behind is not None and behind.events and made.settings.server is None:
            found.append((f"servertest transcript of {made}: its server", behind.render()))
        text = made.histories[0].render()
        if not made.hits:
            text += f"; {len(made.connections)} connection(s) came"
        if made.plan != made.settings.faults:
            text += f"\nat work in the end: {made.plan!r}"
        if failures := [one for one in made.connections if one.reason]:
            text += "".join(f"\nconnection {one.number}: {one.reason}" for one in failures[:5])
        found.append((f"servertest faults of {made}", text))
    return found

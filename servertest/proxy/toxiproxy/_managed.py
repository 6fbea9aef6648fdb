"""A proxy of the API: its settings, its toxics, and its link while it has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..._support import AddressInUse, UsageError, format_address, parse_address
from .._accepting import check_faults
from ._problem import ApiProblem, bad_body, no_such_toxic, toxic_exists
from ._toxic import Toxic

if TYPE_CHECKING:
    from ...faults import Decision
    from .._link import Link
    from .._proxy import Proxy
    from .._record import LinkConnection
    from ._wanted import Wanted

__all__ = ("ManagedProxy", "Watch")

Watch = Callable[["ManagedProxy", "LinkConnection | Decision | None"], object]
"""Is told of a proxy's connections and decisions; and with None that it takes clients from now on."""


class ManagedProxy:
    """Changed only by its collection, one change at a time; read from anywhere.

    Args:
        name: Its name.
        wanted: Its settings.
        seed: Where random numbers come from if the settings do not say.
        links: Where links come from.
        expose: Whether it may listen where other machines can reach it.
        transcript: Whether to record what passes.
        watch: Is told of connections and decisions, and when it begins to take clients, in the thread that carries everything.

    Attributes:
        name: The same.
        wanted: Its settings, with the address at which it listens once it has listened.
        asked: Where it was asked to listen.
        toxics: Its toxics in the order in which they came.
        link: Its link; None as long as it was never enabled.
        enabled: Whether it takes clients.
        made: When the link was made, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        name: str,
        wanted: Wanted,
        seed: int,
        links: Proxy,
        *,
        expose: bool = False,
        transcript: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.name = name
        self.wanted = wanted
        self.asked = wanted.listen
        self.toxics: tuple[Toxic, ...] = ()
        self.link: Link | None = None
        self.enabled = False
        self.made = 0.0
        self._seed = seed
        self._links = links
        self._expose = expose
        self._transcript = transcript
        self._watch = watch

    def __repr__(self) -> str:
        state = "" if self.enabled else ", disabled"
        return f"<ManagedProxy {self.name!r}: {self.wanted.listen} to {self.wanted.upstream}{state}>"

    @property
    def seed(self) -> int | str:
        """Where random numbers come from."""
        return self._seed if self.wanted.seed is None else self.wanted.seed

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "name": self.name,
            "listen": self.wanted.listen,
            "upstream": self.wanted.upstream,
            "enabled": self.enabled,
            **self.wanted.extras,
            "seed": self.seed,
            "toxics": [toxic.to_json() for toxic in self.sorted_toxics],
        }

    @property
    def sorted_toxics(self) -> list[Toxic]:
        """Its toxics as Toxiproxy lists them: those of what clients send first."""
        order = ("upstream", "downstream", "both")
        return sorted(self.toxics, key=lambda toxic: order.index(toxic.stream))

    # -- up and down

    def enable(self) -> None:
        """Take clients.

        Raises:
            ApiProblem: The address cannot be had.
        """
        if self.link is None:
            self.link = self._new_link(self.wanted, self.toxics)
            self._settle(self.wanted)
        self._up(self.link)
        self.enabled = True

    def disable(self) -> None:
        """Refuse clients, and cut off those who are connected. The address stays taken."""
        if self.link is not None:
            self.link.disable()
        self.enabled = False

    def stop(self) -> None:
        """Leave the address to others."""
        link, self.link, self.enabled = self.link, None, False
        if link is not None:
            link.stop()

    def change(self, wanted: Wanted, *, enabled: bool) -> None:
        """Other settings. Where address or server change, connections are cut off; else they live on.

        Raises:
            ApiProblem: The settings, or the address, cannot be had; then as much is as it was as can be.
        """
        if wanted == self.wanted or wanted == replace(self.wanted, listen=self.asked):
            if enabled != self.enabled:
                (self.enable if enabled else self.disable)()
            return
        wanted.check(expose=self._expose)
        if enabled and wanted.listen not in (self.wanted.listen, self.asked):
            self._replace_link(wanted)
        else:
            self.stop()
            self.wanted, self.asked = wanted, wanted.listen
            if enabled:
                self.enable()

    def _replace_link(self, wanted: Wanted) -> None:
        """The new one first: if it cannot be had, the old one stays."""
        made = self._new_link(wanted, self.toxics)
        self.stop()
        self.link, self.asked = made, wanted.listen
        self._settle(wanted)
        self._up(made)
        self.enabled = True

    def _new_link(self, wanted: Wanted, toxics: tuple[Toxic, ...]) -> Link:
        seed = self._seed if wanted.seed is None else wanted.seed
        watch = self._watch
        try:
            made = self._links.link(
                **wanted.options(seed, expose=self._expose),
                transcript=self._transcript,
                up=False,
                watch=None if watch is None else lambda event: watch(self, event),
            )
        except AddressInUse as error:
            raise ApiProblem(f"listen: {error}", 409) from None
        except (UsageError, OSError, UnicodeError) as error:
            raise bad_body(error) from None
        try:
            for toxic in toxics:
                _add(made, toxic)
        except BaseException:
            made.stop()
            raise
        return made

    def _settle(self, wanted: Wanted) -> None:
        """Keep the address at which it listens now."""
        assert self.link is not None
        self.made = monotonic()
        listen = parse_address(wanted.listen) if wanted.listen else None
        if not isinstance(listen, tuple) or not listen[1]:
            address = self.link.address
            if isinstance(listen, tuple) and isinstance(address, tuple):
                address = (listen[0], *address[1:])
            wanted = replace(wanted, listen=format_address(address))
        self.wanted = wanted

    def _up(self, link: Link) -> None:
        def up() -> None:
            link.enable()
            if self._watch is not None:
                self._watch(self, None)

        try:
            # In that thread, so that it is told before the first client.
            link.relay.call(up)
        except OSError as error:
            raise ApiProblem(f"listen: {error}", 409) from None

    # -- toxics

    def toxic(self, name: str) -> Toxic:
        """The toxic of this name.

        Raises:
            ApiProblem: There is none.
        """
        for toxic in self.toxics:
            if toxic.name == name:
                return toxic
        raise no_such_toxic()

    def add_toxic(self, toxic: Toxic) -> None:
        """Put a toxic behind the others, also on connections that exist.

        Raises:
            ApiProblem: The name is taken, or it makes no sense here.
        """
        if any(one.name == toxic.name for one in self.toxics):
            raise toxic_exists()
        check_toxic(toxic, self.wanted)
        if self.link is not None:
            _add(self.link, toxic)
        self.toxics = (*self.toxics, toxic)

    def update_toxic(self, toxic: Toxic) -> None:
        """Put a toxic in the place of the one with this name.

        Raises:
            ApiProblem: There is none, or it makes no sense here.
        """
        self.toxic(toxic.name)
        check_toxic(toxic, self.wanted)
        if self.link is not None:
            self.link.update(toxic.name, toxic.plan)
        self.toxics = tuple(toxic if one.name == toxic.name else one for one in self.toxics)

    def remove_toxic(self, name: str) -> None:
        """Take a toxic away; what it held goes on.

        Raises:
            ApiProblem: There is none.
        """
        self.toxic(name)
        if self.link is not None:
            self.link.remove(name)
        self.toxics = tuple(one for one in self.toxics if one.name != name)


def check_toxic(toxic: Toxic, wanted: Wanted) -> None:
    """Look whether a toxic makes sense on what passes.

    Raises:
        ApiProblem: It does not; the message says why, and what to take.
    """
    try:
        check_faults(toxic.plan, "datagram" if wanted.transport == "datagram" else "stream")
    except UsageError as error:
        raise bad_body(f"{toxic.type}: {error}") from None


def _add(link: Link, toxic: Toxic) -> None:
    try:
        link.add(toxic.plan, key=toxic.name)
    except UsageError as error:
        raise bad_body(f"{toxic.type}: {error}") from None

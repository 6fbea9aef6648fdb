"""All proxies by name, and every change to them: one at a time, and whole or not at all."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Container, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ..._support import STOP_TIMEOUT
from ...faults import derived_seed
from .._proxy import Proxy
from ._managed import ManagedProxy, Watch, check_toxic
from ._problem import ApiProblem, bad_body, missing, no_such_proxy, proxy_exists
from ._reading import Fields, within
from ._toxic import Toxic, read_toxic, updated_toxic
from ._wanted import Wanted, read_wanted, updated_wanted

__all__ = ("Collection",)


class _New:
    """A proxy that was read, and not made yet."""

    def __init__(self, value: Any, what: str, where: str, *, expose: bool) -> None:
        fields = Fields(value, what)
        name = fields.name("name")
        if not name:
            raise missing(f"name{where}")
        self.name = name
        self.wanted = read_wanted(fields, where)
        self.enabled = fields.flag("enabled") is not False
        self.toxics = _read_toxics(fields, self.wanted, what)
        fields.done()
        if self.enabled:
            self.wanted.check(expose=expose)


class Collection:
    """Proxies by name. May be used from any thread; as a context manager it is stopped at the end of the block.

    What comes in and goes out are the values of JSON, as Toxiproxy's API has them.

    Args:
        seed: Where the seeds of proxies that have none of their own come from; a new one if left out.
        expose: Whether proxies may listen where other machines can reach them.
        recorded: The names of the proxies whose links record what passes.
        watch: Is told of connections and decisions with their proxy, and with None when a proxy begins to take clients; in the
            thread that carries everything.

    Attributes:
        seed: The same.
        expose: The same.
    """

    def __init__(
        self,
        *,
        seed: int | str | None = None,
        expose: bool = False,
        recorded: Container[str] = (),
        watch: Watch | None = None,
    ) -> None:
        self.seed = secrets.randbits(32) if seed is None else seed
        self.expose = expose
        self._recorded = recorded
        self._watch = watch
        self._links = Proxy()
        self._proxies: dict[str, ManagedProxy] = {}
        self._lock = threading.RLock()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Collection of {len(self._proxies)} proxies, seed {self.seed!r}>"

    def __iter__(self) -> Iterator[ManagedProxy]:
        return iter(list(self._proxies.values()))

    def __len__(self) -> int:
        return len(self._proxies)

    def get(self, name: str) -> ManagedProxy:
        """The proxy of this name.

        Raises:
            ApiProblem: There is none.
        """
        try:
            return self._proxies[name]
        except KeyError:
            raise no_such_proxy() from None

    def create(self, value: Any) -> ManagedProxy:
        """A new proxy, with its toxics if it has some.

        Raises:
            ApiProblem: The name or the address is taken, or something cannot be.
        """
        new = _New(value, "the body", "", expose=self.expose)
        with self._changing():
            if new.name in self._proxies:
                raise proxy_exists()
            return self._make(new)

    def populate(self, value: Any) -> Iterator[ManagedProxy]:
        """Many proxies. One that exists and has the same addresses stays as it is; if they differ it is made anew.

        All are checked before the first is made. They are made one by one, as they are asked for.

        Raises:
            ApiProblem: Something cannot be; the message names the proxy by its number.
        """
        if not isinstance(value, list):
            raise bad_body("the body is a list of proxies")
        news: list[_New] = []
        for number, each in enumerate(value, 1):
            what = f"proxy {number}"
            try:
                new = _New(each, what, f" at {what}", expose=self.expose)
            except ApiProblem as problem:
                raise problem if what in problem.message else within(what, problem) from None
            if any(new.name == other.name for other in news):
                raise bad_body(f"{what}: the name {new.name!r} is there twice")
            news.append(new)
        return self._populate(news)

    def _populate(self, news: list[_New]) -> Iterator[ManagedProxy]:
        for new in news:
            with self._changing():
                proxy = self._proxies.get(new.name)
                if proxy is not None and not _is_same(proxy, new.wanted):
                    del self._proxies[new.name]
                    proxy.stop()
                    proxy = None
                if proxy is None:
                    proxy = self._make(new)
                else:
                    self._adopt(proxy, new)
            yield proxy

    def update(self, name: str, value: Any) -> ManagedProxy:
        """Change a proxy. Its toxics stay; those in the value, which clients send along, are not looked at.

        Raises:
            ApiProblem: There is no such proxy, or something cannot be.
        """
        with self._changing():
            proxy = self.get(name)
            fields = Fields(value)
            if fields.text("name") not in (None, name):
                raise bad_body("the name of a proxy cannot change: delete it and make another one")
            wanted = updated_wanted(proxy.wanted, fields)
            if not wanted.upstream:
                raise missing("upstream")
            enabled = fields.flag("enabled")
            fields.take("toxics")
            fields.done()
            if wanted != proxy.wanted:
                for toxic in proxy.toxics:
                    check_toxic(toxic, wanted)
            proxy.change(wanted, enabled=proxy.enabled if enabled is None else enabled)
            return proxy

    def delete(self, name: str) -> None:
        """Stop a proxy and forget it.

        Raises:
            ApiProblem: There is none.
        """
        with self._changing():
            proxy = self.get(name)
            del self._proxies[name]
            proxy.stop()

    def reset(self) -> None:
        """Enable all proxies, and take all toxics away.

        Raises:
            ApiProblem: An address cannot be had.
        """
        with self._changing():
            for proxy in self:
                if not proxy.enabled:
                    proxy.enable()
                for toxic in proxy.toxics:
                    proxy.remove_toxic(toxic.name)

    def add_toxic(self, name: str, value: Any) -> Toxic:
        """A new toxic of a proxy.

        Raises:
            ApiProblem: There is no such proxy, the name is taken, or something cannot be.
        """
        with self._changing():
            proxy = self.get(name)
            toxic = read_toxic(value)
            proxy.add_toxic(toxic)
            return toxic

    def update_toxic(self, name: str, toxic_name: str, value: Any) -> Toxic:
        """Change a toxic.

        Raises:
            ApiProblem: There is no such proxy or toxic, or something cannot be.
        """
        with self._changing():
            proxy = self.get(name)
            toxic = updated_toxic(proxy.toxic(toxic_name), value)
            proxy.update_toxic(toxic)
            return toxic

    def remove_toxic(self, name: str, toxic_name: str) -> None:
        """Take a toxic away.

        Raises:
            ApiProblem: There is no such proxy or toxic.
        """
        with self._changing():
            self.get(name).remove_toxic(toxic_name)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop all proxies. They can be read on. The second time nothing happens.

        Args:
            timeout: Seconds, for each of them.

        Raises:
            StillRunning: The thread that carries everything does not end; the message says what it is doing.
        """
        with self._lock:
            self._stopped = True
        self._links.stop(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            if self._stopped:
                raise ApiProblem("the proxies were stopped", 503)
            yield

    def _make(self, new: _New) -> ManagedProxy:
        proxy = ManagedProxy(
            new.name,
            new.wanted,
            derived_seed(self.seed, "proxy", new.name) & 0xFFFFFFFF,
            self._links,
            expose=self.expose,
            transcript=new.name in self._recorded,
            watch=self._watch,
        )
        try:
            for toxic in new.toxics:
                proxy.add_toxic(toxic)
            if new.enabled:
                proxy.enable()
        except BaseException:
            proxy.stop()
            raise
        self._proxies[new.name] = proxy
        return proxy

    @staticmethod
    def _adopt(proxy: ManagedProxy, new: _New) -> None:
        for toxic in new.toxics:
            known = any(one.name == toxic.name for one in proxy.toxics)
            (proxy.update_toxic if known else proxy.add_toxic)(toxic)
        proxy.change(proxy.wanted, enabled=new.enabled)


def _is_same(proxy: ManagedProxy, wanted: Wanted) -> bool:

    return (
        wanted.listen in (proxy.wanted.listen, proxy.asked)
        and replace(wanted, listen=proxy.wanted.listen) == proxy.wanted
    )


def _read_toxics(fields: Fields, wanted: Wanted, what: str) -> tuple[Toxic, ...]:
    value = fields.take("toxics", [])
    if not isinstance(value, list):
        fields.refuse("toxics", "a list of toxics", value)
    toxics: list[Toxic] = []
    for number, each in enumerate(value, 1):
        place = f"toxic {number}" if what == "the body" else f"{what}, toxic {number}"
        try:
            toxic = read_toxic(each, place)
            check_toxic(toxic, wanted)
        except ApiProblem as problem:
            raise problem if place in problem.message else within(place, problem) from None
        if any(toxic.name == other.name for other in toxics):
            raise ApiProblem(f"{place}: toxic already exists", 409)
        toxics.append(toxic)
    return tuple(toxics)

"""Which request means what."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..._support import format_address
from ._metrics import CONTENT_TYPE, metrics
from ._problem import ApiProblem
from ._reading import parse_json

if TYPE_CHECKING:
    from ._collection import Collection
    from ._managed import ManagedProxy

__all__ = ("API_VERSION", "Answer", "answer")

API_VERSION = "2.12.0"
"""The version of Toxiproxy whose API this is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with.

    Attributes:
        status: The HTTP status.
        body: The body; empty for none.
        content_type: What the body is.
        allow: The methods that there are, with status 405.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    allow: str = ""

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Answer:
        """An answer in JSON."""
        return cls(status, json.dumps(value, separators=(",", ":")).encode() + b"\n")

    @classmethod
    def problem(cls, problem: ApiProblem) -> Answer:
        """An answer that says what is wrong."""
        return cls.of(problem.body, problem.status)


Route = Callable[["Collection", list[str], bytes], Answer]


def answer(collection: Collection, method: str, target: str, body: bytes) -> Answer:
    """Do what a request asks for.

    Args:
        collection: The proxies.
        method: The method, in capitals.
        target: The path, with or without a query, which means nothing.
        body: The body.
    """
    parts = [unquote(part) for part in target.partition("?")[0].split("/")[1:]]
    shape, names = _shape(parts)
    methods = _ROUTES.get(shape)
    if methods is None:
        return Answer.problem(ApiProblem("not found", 404))
    route = methods.get(method)
    if route is None:
        problem = ApiProblem(f"{method} is not allowed here", 405)
        return Answer(405, Answer.problem(problem).body, allow=", ".join(methods))
    try:
        return route(collection, names, body)
    except ApiProblem as problem:
        return Answer.problem(problem)


def _shape(parts: list[str]) -> tuple[str, list[str]]:
    """The path with names left out, and the names."""
    names = parts[1::2] if parts[0] == "proxies" else []
    words = [part if not number % 2 else "*" for number, part in enumerate(parts)]
    if parts[0] != "proxies":
        words = parts
    elif "" in names:
        return "", []
    return "/".join(words), names


# -- each request


def _index(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer.of({proxy.name: proxy.to_json() for proxy in collection})


def _create(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer.of(collection.create(parse_json(body)).to_json(), 201)


def _populate(collection: Collection, names: list[str], body: bytes) -> Answer:
    made: list[ManagedProxy] = []
    try:
        made.extend(collection.populate(parse_json(body)))
    except ApiProblem as problem:
        return Answer.of({**problem.body, "proxies": _all(made) or None}, problem.status)
    return Answer.of({"proxies": _all(made)}, 201)


def _all(proxies: list[ManagedProxy]) -> list[dict[str, Any]]:
    return [proxy.to_json() for proxy in proxies]


def _show(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer.of(collection.get(names[0]).to_json())


def _update(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.get(names[0])
    return Answer.of(collection.update(names[0], parse_json(body)).to_json())


def _delete(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.delete(names[0])
    return Answer(204)


def _toxics(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer.of([toxic.to_json() for toxic in collection.get(names[0]).sorted_toxics])


def _add_toxic(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.get(names[0])
    return Answer.of(collection.add_toxic(names[0], parse_json(body)).to_json())


def _show_toxic(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer.of(collection.get(names[0]).toxic(names[1]).to_json())


def _update_toxic(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.get(names[0]).toxic(names[1])
    return Answer.of(collection.update_toxic(names[0], names[1], parse_json(body)).to_json())


def _remove_toxic(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.remove_toxic(names[0], names[1])
    return Answer(204)


def _reset(collection: Collection, names: list[str], body: bytes) -> Answer:
    collection.reset()
    return Answer(204)


def _version(collection: Collection, names: list[str], body: bytes) -> Answer:
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version("servertest")
    except PackageNotFoundError:
        ours = "not installed"  # run from a source tree
    value = {"version": API_VERSION, "servertest": ours}
    return Answer(200, json.dumps(value).encode() + b"\n", "application/json;charset=utf-8")


def _metrics(collection: Collection, names: list[str], body: bytes) -> Answer:
    return Answer(200, metrics(collection).encode("utf-8", "backslashreplace"), CONTENT_TYPE)


# -- beyond Toxiproxy


def _connections(collection: Collection, names: list[str], body: bytes) -> Answer:
    """The connections of a proxy, and what hit each."""
    link = collection.get(names[0]).link
    shown = [
        {
            "number": one.number,
            "client": format_address(one.client),
            "state": one.state,
            "reason": one.reason,
            "upstream": {"received": one.upstream_received, "sent": one.upstream_delivered},
            "downstream": {"received": one.downstream_received, "sent": one.downstream_delivered},
            "hits": one.hits,
        }
        for one in (link.connections if link is not None else ())
    ]
    return Answer.of(shown)


def _decisions(collection: Collection, names: list[str], body: bytes) -> Answer:
    """What faults have decided: the first ten thousand times."""
    proxy = collection.get(names[0])
    trace = proxy.link.trace if proxy.link is not None else ()
    return Answer.of([{**asdict(one), "time": round(one.time - proxy.made, 6)} for one in trace])


def _authority(collection: Collection, names: list[str], body: bytes) -> Answer:
    """The certificate to trust where the client's side of TLS ends here."""
    from ...tls import shared_authority

    return Answer(200, shared_authority().certificate, "application/x-pem-file")


_ROUTES: dict[str, dict[str, Route]] = {
    "proxies": {"GET": _index, "POST": _create},
    "populate": {"POST": _populate},
    "proxies/*": {"GET": _show, "POST": _update, "PATCH": _update, "DELETE": _delete},
    "proxies/*/toxics": {"GET": _toxics, "POST": _add_toxic},
    "proxies/*/toxics/*": {
        "GET": _show_toxic,
        "POST": _update_toxic,
        "PATCH": _update_toxic,
        "DELETE": _remove_toxic,
    },
    "proxies/*/connections": {"GET": _connections},
    "proxies/*/decisions": {"GET": _decisions},
    "reset": {"POST": _reset},
    "version": {"GET": _version},
    "metrics": {"GET": _metrics},
    "authority": {"GET": _authority},
}

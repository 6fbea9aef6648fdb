"""Profiles: a whole swarm as plain data."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._support import UsageError
from ..clients.behaviours import Behaviour, behaviour
from ..faults import derived_seed
from ..faults._fields import Rule

if TYPE_CHECKING:
    from .._support import Transport
    from ..clients.behaviours import Behaving

__all__ = ("IpFamily", "Part", "Profile", "Profiled", "profile")

IpFamily: TypeAlias = Literal["inet", "inet6"]
"""A family of addresses with ports."""

_MOST_CLIENTS = 1_000_000
_RULES = {
    "clients": Rule("count", 1, _MOST_CLIENTS),
    "duration": Rule("seconds", 0, 7 * 86400),
    "per_second": Rule("number", 0.001, optional=True),
    "start_jitter": Rule("seconds", 0),
    "connect_timeout": Rule("seconds", 0.001),
    "transport": Rule("name", choices=("stream", "datagram")),
    "family": Rule("name", choices=("inet", "inet6"), optional=True),
    "share": Rule("number", 0),
}


@dataclass(frozen=True, slots=True)
class Part:
    """A behaviour and how much of a swarm has it.

    Attributes:
        behaviour: How these clients behave.
        share: How many of them there are, in proportion to the other shares.
    """

    behaviour: Behaviour
    share: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", _RULES["share"].accept("Part", "share", self.share))


@dataclass(frozen=True)
class Profile:
    """Who comes, when, and for how long. What client number k does is drawn from ``(seed, k)`` alone: a profile sends the same bytes at the
    same times on every engine, on one machine or on ten.

    Attributes:
        parts: The behaviours with their shares; or behaviours alone, as values or text.
        clients: How many clients.
        duration: Seconds after which those that are still there are taken away.
        per_second: How many begin in a second; None for all at once.
        start_jitter: Seconds by which each may begin later.
        connect_timeout: Seconds after which a client that is not connected counts as timed out.
        seed: Where all random numbers come from.
        transport: "stream" or "datagram".
        family: "inet" or "inet6", for a host that has addresses of both; None for whichever answers first.
        tls: Whether to speak TLS. Certificates are not looked at.
        name: What it is called.
        about: What it is for.
    """

    parts: tuple[Part, ...]
    clients: int = 100
    duration: float = 10.0
    per_second: float | None = None
    start_jitter: float = 0.0
    connect_timeout: float = 5.0
    seed: int | str = 0
    transport: Transport = "stream"
    family: IpFamily | None = None
    tls: bool = False
    name: str = ""
    about: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", _parts(self.parts))
        for each in fields(self):
            if rule := _RULES.get(each.name):
                value = rule.accept("profile", each.name, getattr(self, each.name))
                object.__setattr__(self, each.name, value)
        _require("tls", self.tls, bool, "true or false")
        _require("seed", self.seed, (int, str), "a whole number or a text")
        _require("name", self.name, str, "a text")
        for part in self.parts:
            part.behaviour.check(self.transport, tls=self.tls)
        if self.tls and self.transport == "datagram":
            raise UsageError("profile: tls goes with transport 'stream' only")

    @property
    def ramp(self) -> float:
        """Seconds until the last client has begun."""
        last = 0.0 if self.per_second is None else (self.clients - 1) / self.per_second
        return last + self.start_jitter

    def roles(self) -> Sequence[int]:
        """For each client the number of its part: shares are met exactly, to the nearest client, in a drawn order."""
        counts = _split(self.clients, [part.share for part in self.parts])
        order: list[int] = []
        for number, count in enumerate(counts):
            order.extend([number] * count)
        if len(counts) > 1:
            random.Random(derived_seed(self.seed, "roles")).shuffle(order)  # noqa: S311
        return bytes(order) if len(counts) < 256 else order

    def start_of(self, number: int) -> float:
        """When a client begins, in seconds; clients are numbered from 1."""
        at = 0.0 if self.per_second is None else (number - 1) / self.per_second
        if self.start_jitter:
            at += self.start_jitter * derived_seed(self.seed, number, "start") / (1 << 64)
        return at

    def as_dict(self) -> dict[str, Any]:
        """The profile as JSON or TOML would have it; `profile` reads it."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "parts"}
        plain = {name: value for name, value in plain.items() if value not in (None, "")}
        plain["behaviours"] = [{"behaviour": part.behaviour.text, "share": part.share} for part in self.parts]
        return plain


Profiled: TypeAlias = "Profile | Behaving | Mapping[str, Any] | os.PathLike[str] | Iterable[Behaviour]"
"""What is accepted wherever a profile is: one, a behaviour or several, the name of a built-in profile, plain data, or a file."""


def profile(wanted: Profiled, **changes: Any) -> Profile:
    """Whatever stands for a profile, as one.

    Args:
        wanted: A profile; the name of a built-in one; a behaviour, or its text; several; plain data; the path of a file with
            plain data (``.json`` or ``.toml``).
        changes: Values that are to be others; None leaves one as it is.

    Raises:
        UsageError: It is none of these, or a value is outside its range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if isinstance(wanted, Profile):
        return replace(wanted, **given)
    if isinstance(wanted, Mapping):
        return _from_plain({**wanted, **given})
    if isinstance(wanted, os.PathLike):
        return _from_file(Path(wanted), given)
    if isinstance(wanted, str):
        return _from_text(wanted, given)
    if isinstance(wanted, Behaviour):
        return Profile((Part(wanted),), **{"name": wanted.name, **given})
    if isinstance(wanted, Iterable):
        return Profile(_parts(wanted), **given)
    raise UsageError(f"a profile is a name, a behaviour, plain data or a path, not {wanted!r}")


def _from_text(text: str, given: dict[str, Any]) -> Profile:
    from ._builtin import PROFILES

    known = PROFILES.get(text.replace("_", "-"))
    if known is not None:
        return replace(known, **given)
    if text.endswith((".json", ".toml")):
        return _from_file(Path(text), given)
    try:
        chosen = behaviour(text)
    except UsageError as error:
        raise UsageError(
            f"{error}\nProfiles are {', '.join(sorted(PROFILES))}, or a .json or .toml file"
        ) from None
    return Profile((Part(chosen),), **{"name": chosen.name, **given})


def _from_file(path: Path, given: dict[str, Any]) -> Profile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"the profile {path} cannot be read: {error.strerror}") from None
    try:
        if path.suffix == ".toml":
            import tomllib

            plain = tomllib.loads(data.decode())
        else:
            import json

            plain = json.loads(data)
    except ValueError as error:
        raise UsageError(f"the profile {path} is malformed: {error}") from None
    if not isinstance(plain, Mapping):
        raise UsageError(f"the profile {path} is malformed: it is a table of values, not {plain!r}")
    return _from_plain({"name": path.stem, **plain, **given})


def _from_plain(plain: Mapping[str, Any]) -> Profile:
    values = dict(plain)
    parts = values.pop("behaviours", None)
    if not parts:
        raise UsageError("profile: behaviours is a list with at least one behaviour")
    known = {each.name for each in fields(Profile)} - {"parts"}
    for name in values:
        if name not in known:
            raise UsageError(
                f"profile: there is no value {name!r}; there are behaviours, {', '.join(sorted(known))}"
            )
    return Profile(parts, **values)


def _require(name: str, value: object, kinds: Any, what: str) -> None:
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise UsageError(f"profile: {name} is {what}, not {value!r}")


def _parts(parts: Any) -> tuple[Part, ...]:
    if isinstance(parts, Part | Behaviour | str | Mapping):
        parts = (parts,)
    if not isinstance(parts, Iterable):
        raise UsageError(f"profile: behaviours is a list, not {parts!r}")
    made = tuple(map(_part, parts))
    if not made or not sum(part.share for part in made):
        raise UsageError("profile: there is at least one behaviour with a share above 0")
    return made


def _part(part: Any) -> Part:
    if isinstance(part, Part):
        return part
    if isinstance(part, Mapping):
        values = dict(part)
        if "behaviour" not in values or values.keys() - {"behaviour", "share"}:
            raise UsageError(f'profile: a behaviour is {{"behaviour": text, "share": number}}, not {part!r}')
        return Part(behaviour(values["behaviour"]), values.get("share", 1.0))
    if isinstance(part, tuple) and len(part) == 2:
        return Part(behaviour(part[0]), part[1])
    return Part(behaviour(part))


def _split(total: int, shares: Sequence[float]) -> list[int]:
    """A whole in parts that are as near to the shares as whole numbers can be (by largest remainder)."""
    whole = sum(shares)
    exact = [total * share / whole for share in shares]
    counts = [int(each) for each in exact]
    by_remainder = sorted(range(len(shares)), key=lambda n: (counts[n] - exact[n], n))
    for number in by_remainder[: total - sum(counts)]:
        counts[number] += 1
    return counts

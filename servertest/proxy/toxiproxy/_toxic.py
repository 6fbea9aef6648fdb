"""A toxic: faults with a name, aimed and triggered, which a proxy puts in the way of its connections."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..._support import UsageError
from ...faults import Plan, derived_seed, downstream, upstream
from ._kinds import TEXT, plan_of, read_attributes
from ._problem import ApiProblem, bad_body
from ._reading import Fields
from ._values import read_trigger

if TYPE_CHECKING:
    from ...faults import Site

__all__ = ("Toxic", "read_toxic", "updated_toxic")

_STREAMS = ("upstream", "downstream", "both")


@dataclass(frozen=True, slots=True)
class _Share:
    """Says whether a toxic is at work on a connection: drawn once for each, and by the toxic's name.

    Nothing else that comes, goes or changes draws again, neither a change of the toxic itself. A larger share hits those that a
    smaller one hits, and more.
    """

    toxic: str
    toxicity: float

    def __call__(self, site: Site) -> bool:
        seed = derived_seed(site.seed, site.connection, self.toxic, "toxicity")
        return random.Random(seed).random() < self.toxicity  # noqa: S311 - it has to repeat

    def __repr__(self) -> str:
        # Without the share: where a toxic stays at work it goes on as it was.
        return f"the toxicity of {self.toxic!r}"


@dataclass(frozen=True, slots=True)
class Toxic:
    """A toxic that was read and checked.

    Attributes:
        name: Its name in the proxy.
        type: What it does.
        stream: "upstream", "downstream", or, which Toxiproxy does not know, "both".
        toxicity: The share of connections on which it is at work.
        attributes: As they are shown.
        triggers: When it is at work, as JSON; empty for always.
        plan: The faults that it stands for.
    """

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: Mapping[str, Any]
    triggers: Mapping[str, Any]
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """As the API shows it."""
        shown: dict[str, Any] = {
            "attributes": dict(self.attributes),
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }
        return {**shown, "triggers": dict(self.triggers)} if self.triggers else shown


def read_toxic(value: Any, what: str = "the body") -> Toxic:
    """A toxic from an object of JSON.

    Raises:
        ApiProblem: It is malformed; the message names the field.
    """
    fields = Fields(value, what)
    kind = fields.text("type") or ""
    usual = "both" if kind == TEXT else "downstream"
    stream = fields.text("stream") or usual
    if stream not in _STREAMS:
        raise ApiProblem("stream was invalid, can be either upstream or downstream")
    name = fields.name("name") or f"{kind}_{stream}"
    toxicity = fields.number("toxicity", most=1)
    attributes = read_attributes(kind, fields.take("attributes"))
    triggers = fields.take("triggers", {})
    fields.done()
    return _made(name, kind, stream, 1 if toxicity is None else toxicity, attributes, triggers)


def updated_toxic(toxic: Toxic, value: Any) -> Toxic:
    """A toxic with what an object of JSON says about it; what is left out stays.

    Raises:
        ApiProblem: It is malformed, or says something else of what cannot change.
    """
    fields = Fields(value)
    for fixed in ("name", "type", "stream"):
        wanted = fields.text(fixed)
        if wanted not in (None, getattr(toxic, fixed)):
            raise bad_body(f"the {fixed} of a toxic cannot change: delete it and make another one")
    toxicity = fields.number("toxicity", most=1)
    attributes = read_attributes(toxic.type, fields.take("attributes"), toxic.attributes)
    triggers = fields.take("triggers", {} if fields.nulled("triggers") else toxic.triggers)
    fields.done()
    share = toxic.toxicity if toxicity is None else toxicity
    return _made(toxic.name, toxic.type, toxic.stream, share, attributes, triggers)


def _made(
    name: str, kind: str, stream: str, toxicity: float, attributes: Mapping[str, Any], triggers: Any
) -> Toxic:
    toxicity = int(toxicity) if float(toxicity).is_integer() else toxicity
    trigger = read_trigger(triggers)
    faults = plan_of(kind, attributes)
    try:
        if stream != "both":
            faults = (upstream if stream == "upstream" else downstream)(faults)
        if trigger is not None:
            faults = faults.on(**trigger.given)
        if toxicity < 1:
            faults = faults.on(when=_Share(name, toxicity))
    except UsageError as error:
        raise bad_body(error) from None
    return Toxic(name, kind, stream, toxicity, attributes, triggers, faults)

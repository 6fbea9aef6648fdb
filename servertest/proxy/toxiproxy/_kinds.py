"""The types of toxics: Toxiproxy's own in its units, and every fault by its name in seconds and bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..._support import UsageError
from ...faults import (
    Bandwidth,
    Blackhole,
    Fault,
    Latency,
    LimitData,
    Loss,
    Plan,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    plan,
    registry,
)
from ._problem import ApiProblem, bad_body
from ._reading import Fields
from ._values import field_value

__all__ = ("TEXT", "plan_of", "read_attributes")

TEXT = "faults"
"""The type whose attribute is the text of any faults."""


@dataclass(frozen=True, slots=True)
class _Attribute:
    """An attribute of Toxiproxy's.

    Attributes:
        field: The fault's field.
        by: What a value is multiplied by, to be in seconds or bytes; below one as what it is divided by, which is exact.
        unit: As an error says it.
        usual: What it is if it is left out; None if it has to be there.
    """

    field: str
    by: float
    unit: str
    usual: float | None = 0

    def convert(self, value: float) -> float:
        return value * self.by if self.by >= 1 else value / round(1 / self.by)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of Toxiproxy's."""

    fault: type[Fault]
    attributes: Mapping[str, _Attribute]
    make: Callable[..., Fault]

    @property
    def others(self) -> dict[str, Any]:
        """The fault's other fields, which Toxiproxy does not have."""
        taken = {attribute.field for attribute in self.attributes.values()} | set(self.attributes)
        return {each.name: each.rule for each in self.fault.parameters() if each.name not in taken}


def _milliseconds(field: str) -> _Attribute:
    return _Attribute(field, 1e-3, "milliseconds")


def _kind(fault: type[Fault], make: Callable[..., Fault] | None = None, **attributes: _Attribute) -> _Kind:
    return _Kind(fault, attributes, make or fault)


def _timeout(after: float) -> Fault:
    return Timeout(after) if after else Blackhole()


_KINDS = {
    "latency": _kind(Latency, latency=_milliseconds("delay"), jitter=_milliseconds("jitter")),
    "bandwidth": _kind(Bandwidth, rate=_Attribute("rate", 1000, "KB/s")),
    "slow_close": _kind(SlowClose, delay=_milliseconds("delay")),
    "timeout": _kind(Timeout, _timeout, timeout=_milliseconds("after")),
    "reset_peer": _kind(ResetPeer, timeout=_milliseconds("after")),
    "slicer": _kind(
        Slicer,
        average_size=_Attribute("average_size", 1, "bytes", None),
        size_variation=_Attribute("size_variation", 1, "bytes"),
        delay=_Attribute("delay", 1e-6, "microseconds"),
    ),
    "limit_data": _kind(LimitData, bytes=_Attribute("limit", 1, "bytes")),
    "packet_loss": _kind(
        Loss,
        loss_rate=_Attribute("probability", 1, "a share of 1", 0.1),
        correlation=_Attribute("correlation", 1, "a share of 1"),
    ),
}


def read_attributes(kind: str, value: Any, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The attributes of a toxic as they are shown: those that are given, else those from before, else the usual ones.

    Raises:
        ApiProblem: There is no such type or attribute, or a value is outside its range.
    """
    if kind not in _KINDS and kind not in registry and kind != TEXT:
        raise ApiProblem("invalid toxic type")
    what = f"the attributes of {kind}"
    new = {} if value is None else Fields(value, what).raw
    if kind in registry and kind not in _KINDS:
        return _read_fault(registry[kind], {**(before or {}), **new}, what)
    fields = Fields(
        {**(before or {}), **{name: each for name, each in new.items() if each is not None}}, what
    )
    return _read_text(fields) if kind == TEXT else _read_toxiproxy(_KINDS[kind], fields)


def plan_of(kind: str, attributes: Mapping[str, Any]) -> Plan:
    """The faults that a toxic with these attributes, which were read, stands for.

    Raises:
        ApiProblem: The values contradict each other.
    """
    try:
        if kind == TEXT:
            return plan(attributes["text"])
        fields = Fields(attributes, f"the attributes of {kind}")
        if kind not in _KINDS:
            return Plan.of(_fault(registry[kind], attributes, fields))
        toxic = _KINDS[kind]
        values = {own.field: _number(own.convert(attributes[name])) for name, own in toxic.attributes.items()}
        values |= {
            name: field_value(rule, fields, name) for name, rule in toxic.others.items() if name in attributes
        }
        return Plan.of(toxic.make(**values))
    except UsageError as error:
        raise error if isinstance(error, ApiProblem) else bad_body(error) from None


def _fault(fault: type[Fault], attributes: Mapping[str, Any], fields: Fields) -> Fault:
    rules = {each.name: each.rule for each in fault.parameters()}
    return fault(
        **{
            name: None if value is None else field_value(rules[name], fields, name)
            for name, value in attributes.items()
        }
    )


def _read_text(fields: Fields) -> dict[str, Any]:
    text = fields.text("text")
    fields.done()
    if not text or not text.strip():
        raise bad_body(
            'the attributes of faults: text is the text of faults, such as "latency:50ms|slicer:3"'
        )
    return {"text": text}


def _read_toxiproxy(kind: _Kind, fields: Fields) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, own in kind.attributes.items():
        value = fields.take(name, own.usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            fields.refuse(name, f"a number of {own.unit} from 0 up", value)
        read[name] = _number(value)
    for name in kind.others:
        value = fields.take(name)
        if value is not None:
            read[name] = value
    fields.done()
    return read


def _read_fault(fault: type[Fault], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    fields = Fields(given, what)
    for each in fault.parameters():
        fields.take(each.name)
    fields.done()
    optional = {each.name for each in fault.parameters() if each.rule is None or each.rule.optional}
    return {name: value for name, value in given.items() if value is not None or name in optional}


def _number(value: float) -> float:
    """As Go writes it: without a fraction of nothing."""
    return int(value) if value == int(value) else value

"""`servertest faults`: what can go wrong."""

from __future__ import annotations

import argparse
import json
from inspect import cleandoc
from typing import Any

from ..faults import PRESETS, Fault, Parameter, registry
from ._status import FINE
from ._table import print_table

__all__ = ("add_to",)

_PLACES = {"line": "anywhere", "calls": "on a socket", "listener": "where connections are accepted"}


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "faults",
        help="list the faults and the networks with a name",
        description="List all faults with their fields, as text has them, and the presets: networks with a name.",
    )
    parser.add_argument(
        "--transport", choices=("stream", "datagram"), help="only those that make sense on it"
    )
    parser.add_argument("--json", action="store_true", help="for programs, with what each field means")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them."""
    wanted = arguments.transport
    faults = [kind for _, kind in sorted(registry.items()) if wanted in (None, *kind.carried_by)]
    presets = [preset for preset in PRESETS if wanted in (None, *preset.carried_by)]
    if arguments.json:
        print(
            json.dumps(
                {"faults": list(map(_plain, faults)), "presets": list(map(_preset, presets))}, indent=2
            )
        )
        return FINE
    print_table(
        ("fault", "fields, as they usually are", "transports", "works"),
        [(kind.name, _fields(kind), _transports(kind.carried_by), _PLACES[kind.place]) for kind in faults],
    )
    print()
    print_table(
        ("preset", "transports", "which is"),
        [(preset.name, _transports(preset.carried_by), preset.about) for preset in presets],
    )
    return FINE


def _fields(kind: type[Fault]) -> str:
    return ", ".join(f"{each.name}:{_value(each.default)}{_unit(each)}" for each in kind.parameters())


def _value(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else _printable(value)


def _printable(value: Any) -> str:
    return repr(value)[1:].replace("'", '"') if isinstance(value, bytes) else str(value)


def _unit(parameter: Parameter) -> str:
    return parameter.rule.unit if parameter.rule is not None and parameter.default is not None else ""


def _transports(carried_by: frozenset[Any]) -> str:
    return "both" if len(carried_by) == 2 else next(iter(carried_by))


def _plain(kind: type[Fault]) -> dict[str, Any]:
    return {
        "name": kind.name,
        "about": " ".join(cleandoc(kind.__doc__ or "").partition("\n\n")[0].split()),
        "transports": sorted(kind.carried_by),
        "place": kind.place,
        "usual_direction": kind.usual_direction,
        "lossless": kind.lossless,
        "fields": [_field(each) for each in kind.parameters()],
    }


def _field(parameter: Parameter) -> dict[str, Any]:
    rule = parameter.rule
    default = parameter.default
    return {
        "name": parameter.name,
        "default": default.decode("latin-1") if isinstance(default, bytes) else default,
        "unit": rule.unit if rule else "",
        "allowed": rule.allowed if rule else "",
        "about": parameter.about,
    }


def _preset(preset: Any) -> dict[str, Any]:
    return {
        "name": preset.name,
        "about": preset.about,
        "source": preset.source,
        "transports": sorted(preset.carried_by),
        "text": preset.plan.text,
    }

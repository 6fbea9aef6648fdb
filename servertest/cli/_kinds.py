"""`servertest kinds`: what there is."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..launch import Concurrency, Kind, kinds
from ._status import FINE
from ._table import print_table

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "kinds", help="list the kinds of server", description="List the kinds of server."
    )
    parser.add_argument("--transport", choices=("stream", "datagram"), help="only these")
    parser.add_argument("--all", action="store_true", help="every address family and TLS, too")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print them."""
    every: tuple[Concurrency, ...] = ("sync", "threading", "forking", "pool", "prefork", "selector")
    wide: dict[str, Any] = {"family": None, "tls": None} if arguments.all else {}
    found = kinds(transport=arguments.transport, concurrency=every, **wide)
    if arguments.json:
        print(json.dumps([_plain(kind) for kind in found], indent=2))
    else:
        columns = ("kind", "transport", "family", "concurrency", "tls", "runs in a", "available")
        print_table(columns, [_row(kind) for kind in found])
    return FINE


def _plain(kind: Kind) -> dict[str, Any]:
    return {
        "kind": str(kind),
        "transport": kind.transport,
        "family": kind.family,
        "concurrency": kind.concurrency,
        "tls": kind.tls,
        "host": kind.host,
        "available": kind.reason is None,
        "reason": kind.reason,
    }


def _row(kind: Kind) -> tuple[str, ...]:
    tls = {False: "no", True: "yes"}.get(bool(kind.tls), "no")
    reason = kind.reason
    return (
        str(kind),
        kind.transport,
        kind.family,
        kind.concurrency,
        tls,
        kind.host,
        "yes" if reason is None else reason,
    )

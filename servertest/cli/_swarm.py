"""`servertest swarm`: thousands of slow or rude clients against any server of yours."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

from .._support import UsageError, parse_address
from ._signals import told_to_stop
from ._status import FINE, FOUND, INTERRUPTED
from ._table import print_table

if TYPE_CHECKING:
    from ..swarm import Crowd, Probe

__all__ = ("add_to",)

_DESCRIPTION = """\
Send a crowd of slow or rude clients to a server, and say what became of them. With --probe-request an honest client asks before,
during and after; exit status 1 says that it was not always served. Ctrl-C ends it early and keeps the results.
"""


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "swarm", help="send a crowd of slow or rude clients to a server", description=_DESCRIPTION
    )
    parser.add_argument("address", nargs="?", metavar="ADDRESS", help="HOST:PORT, a path, or @NAME")
    parser.add_argument("--list", action="store_true", help="list the profiles and the behaviours")
    parser.add_argument("--json", action="store_true", help="print the result, or the list, for programs")
    parser.add_argument(
        "--out",
        action="append",
        default=[],
        metavar="FILE",
        help="write the result into a file too: .html and .svg have a chart, .json everything, .txt the table",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument(
        "--i-own-this-host", action="store_true", help="send them to a host that is not this machine"
    )
    _add_profile(parser.add_argument_group("who comes"))
    _add_probe(parser.add_argument_group("the honest client"))
    _add_engine(parser.add_argument_group("what plays them"))
    parser.set_defaults(run=run)


def _add_profile(group: Any) -> None:
    group.add_argument(
        "--profile",
        default="slow-writer",
        metavar="NAME|FILE|TEXT",
        help="a profile by name, a .json or .toml file, or a behaviour such as 'slow_writer:\"hi\\n\",bytes_per_second:2' (default: slow-writer)",
    )
    group.add_argument("--clients", type=int, metavar="N", help="how many")
    group.add_argument("--duration", type=float, metavar="SECONDS", help="how long they stay at most")
    group.add_argument("--per-second", type=float, metavar="N", help="how many begin in a second")
    group.add_argument("--seed", metavar="SEED", help="the same seed sends the same bytes at the same times")
    group.add_argument(
        "--tls", action="store_true", default=None, help="speak TLS; certificates are not looked at"
    )
    group.add_argument("--transport", choices=("stream", "datagram"), help="TCP and its like, or UDP")
    group.add_argument("--family", choices=("inet", "inet6"), help="IPv4 or IPv6, for a name that has both")


def _add_probe(group: Any) -> None:
    group.add_argument(
        "--probe-request", metavar="TEXT", help=r"what it sends, with \r, \n, \x00 as in Python"
    )
    group.add_argument(
        "--probe-reply", metavar="TEXT", help="how the reply begins; anything at all if not given"
    )
    group.add_argument("--probe-timeout", type=float, default=5.0, metavar="SECONDS", help="(default: 5)")
    group.add_argument("--probe-interval", type=float, default=1.0, metavar="SECONDS", help="(default: 1)")


def _add_engine(group: Any) -> None:
    group.add_argument(
        "--engine",
        choices=("local", "execnet", "locust"),
        default="local",
        help="(default: local, a child process)",
    )
    group.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="SPEC",
        help="execnet: a machine, such as ssh=host//python=python3; may be given several times",
    )
    group.add_argument("--workers", type=int, metavar="N", help="locust: how many processes (default: 2)")
    group.add_argument("--web", metavar="[HOST:]PORT", help="locust: serve its web UI there while it runs")


def run(arguments: argparse.Namespace) -> int:
    """Send them. Exit status 1 if an honest client was not served, 130 if it was interrupted."""
    if arguments.list:
        return _list(as_json=arguments.json)
    if arguments.address is None:
        raise UsageError("say where the server is, as HOST:PORT, a path or @NAME; --list lists the profiles")
    from ..swarm import require_writable

    for name in arguments.out:
        require_writable(name)
    crowd = _crowd(arguments)
    with contextlib.closing(crowd):
        crowd.start()
        with told_to_stop() as told:
            _follow(crowd, told)
            result = crowd.stop()
    print(json.dumps(result.as_dict()) if arguments.json else result)
    for name in arguments.out:
        result.write(name)
    if told.is_set():
        return INTERRUPTED
    return FINE if all(probe.served for probe in result.probes) else FOUND


def _crowd(arguments: argparse.Namespace) -> Crowd:
    from ..swarm import swarm
    from ..swarm._bar import has_rich

    seed = arguments.seed
    return swarm(
        parse_address(arguments.address),
        arguments.profile,
        clients=arguments.clients,
        duration=arguments.duration,
        per_second=arguments.per_second,
        seed=int(seed) if seed is not None and seed.isascii() and seed.isdigit() else seed,
        tls=arguments.tls,
        transport=arguments.transport,
        family=arguments.family,
        probe=_probe(arguments),
        engine=arguments.engine,
        options=_options(arguments),
        i_own_this_host=arguments.i_own_this_host,
        progress=not arguments.quiet and sys.stderr.isatty() and has_rich(),
    )


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What only one engine understands."""
    found: dict[str, Any] = {}
    for name, engine, option in (
        ("gateway", "execnet", "gateways"),
        ("workers", "locust", "workers"),
        ("web", "locust", "web"),
    ):
        value = getattr(arguments, name)
        if not value:
            continue
        if arguments.engine != engine:
            raise UsageError(f"--{name} goes with --engine {engine}")
        found[option] = value
    return found


def _probe(arguments: argparse.Namespace) -> Probe | None:
    from ..swarm import Probe

    request, reply = arguments.probe_request, arguments.probe_reply
    if request is None and reply is None:
        return None
    return Probe(
        _bytes("--probe-request", request or ""),
        _bytes("--probe-reply", reply) if reply else None,
        arguments.probe_timeout,
        arguments.probe_interval,
    )


def _bytes(option: str, text: str) -> bytes:
    try:
        return text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    except UnicodeError:
        raise UsageError(rf"{option} is ASCII with escapes such as \r, \n and \x00, not {text!r}") from None


# -- while it goes on


def _follow(crowd: Crowd, told: threading.Event) -> None:
    for _ in crowd.follow():
        if told.is_set():
            return


# -- what there is


def _list(*, as_json: bool) -> int:
    from ..clients.behaviours import behaviours
    from ..swarm import PROFILES

    if as_json:
        plain = {
            "profiles": {name: {"about": each.about, **each.as_dict()} for name, each in PROFILES.items()},
            "behaviours": {name: kind.description() for name, kind in behaviours.items()},
        }
        print(json.dumps(plain, indent=2))
        return FINE
    print_table(
        ("profile", "clients", "stay", "what they are"),
        [(name, str(each.clients), f"{each.duration:g} s", each.about) for name, each in PROFILES.items()],
    )
    print()
    print_table(
        ("behaviour", "fields", "what it is"),
        [
            (
                name,
                ", ".join(each.name for each in kind.parameters()),
                kind.description().partition(":")[0].partition(". ")[0].rstrip("."),
            )
            for name, kind in sorted(behaviours.items())
        ],
    )
    return FINE

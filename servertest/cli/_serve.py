"""`servertest serve`: put a handler up by hand."""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any

from .._support import HandlerFailed, StillRunning, UsageError, format_address, parse_address
from ..launch import Running, launch
from ._load import load_object
from ._signals import told_to_stop
from ._status import FINE, FOUND

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "serve",
        help="put a handler or a server up, until it is interrupted",
        description="Put a request handler, a whole server class or a function up, until it is interrupted (Ctrl-C, SIGTERM).",
    )
    parser.add_argument(
        "target",
        metavar="MODULE:NAME|PEER",
        help="what to serve, for example http.server:SimpleHTTPRequestHandler; or a ready-made peer: echo, discard, chargen, daytime, "
        "time, line-chat, key-value-store, black-hole, tarpit",
    )
    parser.add_argument(
        "--kind", help="the kind of server; `servertest kinds` lists them (default: ThreadingTCPServer)"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="HOST:PORT, a path, or @NAME (default: a free loopback port)"
    )
    parser.add_argument(
        "--tls",
        nargs="?",
        const=True,
        metavar="PROFILE",
        help="speak TLS; PROFILE may name a fault such as expired",
    )
    parser.add_argument("--host", choices=("thread", "process"), help="where it runs")
    parser.add_argument(
        "--stop-timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long stopping may take (default: 10)",
    )
    parser.add_argument("--transcript", action="store_true", help="print what passed, at the end")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes. Exit status 1 if the server had errors or had to be forced to stop."""
    address = parse_address(arguments.address) if arguments.address else None
    running = launch(
        _target(arguments.target),
        kind=arguments.kind,
        address=address,
        tls=arguments.tls,
        host=arguments.host,
        timeout=arguments.stop_timeout,
    )
    with told_to_stop() as told:
        _announce(running)
        told.wait()
        return _end(running, show=arguments.transcript)


def _target(spec: str) -> Any:
    if ":" in spec or spec.endswith(".py"):
        return load_object(spec)
    from ..mocks.peers import peers

    if spec not in peers:
        close = difflib.get_close_matches(spec, peers, n=1)
        raise UsageError(
            f"{spec!r} is neither MODULE:NAME nor a ready-made peer"
            + (f"; did you mean {close[0]}?" if close else f"; of those there are {', '.join(sorted(peers))}")
        )
    return peers[spec]


def _announce(running: Running) -> None:
    tls = " with TLS" if running.kind.tls else ""
    # The first line is for programs that start us: it comes when connections are accepted.
    print(
        f"serving {running.target.name} as {running.kind} on {format_address(running.address)}{tls}",
        flush=True,
    )


def _end(running: Running, *, show: bool) -> int:
    status = FINE
    try:
        running.stop()
    except (HandlerFailed, StillRunning) as failure:
        print(failure, file=sys.stderr)
        status = FOUND
    transcript = running.transcript
    if transcript is not None:
        if show:
            print(transcript.render(max_lines=200))
        print(f"stopped after {len(transcript.connections)} connection(s)")
    return status

"""`servertest record` and `servertest replay`: what passes between a client and a server, written down and played again."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .._support import UsageError, format_address, parse_address
from ._proxy import _add_tls, _write_authority
from ._signals import told_to_stop
from ._status import FINE, FOUND

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the commands."""
    _add_record(commands)
    _add_replay(commands)


def _add_record(commands: Any) -> None:
    parser = commands.add_parser(
        "record",
        help="write down what passes between clients and a server",
        description="Put a proxy before a server, and write what passes into a .wire file when it is interrupted (Ctrl-C, SIGTERM).",
    )
    parser.add_argument(
        "--upstream", required=True, metavar="ADDRESS", help="the server: HOST:PORT, a path, or @NAME"
    )
    parser.add_argument("--output", required=True, metavar="FILE.wire", help="where it is written")
    parser.add_argument(
        "--listen", metavar="ADDRESS", help="where clients come in (default: a free loopback address)"
    )
    parser.add_argument(
        "--transport", choices=("stream", "datagram"), default="stream", help="default: stream"
    )
    parser.add_argument(
        "--scrub",
        action="append",
        default=[],
        metavar="PATTERN",
        help="what must not be written down: a regular expression, or http, mail, redis; may be given several times",
    )
    parser.add_argument("--no-times", action="store_true", help="do not write when it happened")
    _add_tls(parser.add_argument_group("TLS (passes through untouched, and unreadable, if nothing is said)"))
    parser.set_defaults(run=run_record)


def _add_replay(commands: Any) -> None:
    parser = commands.add_parser(
        "replay",
        help="answer clients as a recorded server did",
        description="Serve the conversations of a .wire file until interrupted (Ctrl-C, SIGTERM).",
    )
    parser.add_argument("file", metavar="FILE.wire", help="what was recorded, or written by hand")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="HOST:PORT, a path, or @NAME (default: a free loopback port)"
    )
    parser.add_argument(
        "--match",
        choices=("strict", "requests"),
        default="strict",
        help="conversation by conversation, or each request as it was answered (default: strict)",
    )
    parser.add_argument(
        "--timing",
        default="none",
        metavar="none|original|FACTOR",
        help="when answers come (default: none, at once)",
    )
    parser.add_argument(
        "--repeat", action="store_true", help="begin with the first conversation again after the last"
    )
    parser.add_argument(
        "--delimiter",
        metavar="TEXT",
        help=r"what ends each request, such as \r\n (default: what was recorded in a row)",
    )
    parser.add_argument(
        "--scrub",
        action="append",
        default=[],
        metavar="PATTERN",
        help="what was scrubbed and may be anything",
    )
    parser.add_argument("--tls", nargs="?", const=True, metavar="PROFILE", help="speak TLS")
    parser.set_defaults(run=run_replay)


def run_record(arguments: argparse.Namespace) -> int:
    """Record until a signal comes."""
    from ..mocks import record
    from ..proxy.toxiproxy._wanted import server_tls, upstream_tls

    if arguments.tls_ca:
        _write_authority(arguments.tls_ca)
    recording = record(
        parse_address(arguments.upstream),
        arguments.output,
        scrub=_scrubs(arguments.scrub),
        times=not arguments.no_times,
        listen=arguments.listen,
        transport=arguments.transport,
        tls=server_tls(arguments.tls),
        upstream_tls=upstream_tls(arguments.upstream_tls),
        server_hostname=arguments.server_name,
    )
    with told_to_stop() as told:
        # The first line is for programs that start us: it comes when clients are accepted.
        print(
            f"recording {arguments.upstream} on {format_address(recording.address)} into {arguments.output}",
            flush=True,
        )
        told.wait()
        recording.stop()
    print(f"wrote {len(recording.transcript.connections)} conversation(s) into {arguments.output}")
    return FINE


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay until a signal comes. Exit status 1 if clients did not do what was recorded."""
    from ..mocks import MockFailed, replay
    from ..transcript import Delimited

    try:
        mock = replay(
            arguments.file,
            match=arguments.match,
            timing=_timing(arguments.timing),
            repeat=arguments.repeat,
            scrub=_scrubs(arguments.scrub),
            framing=Delimited(_unescaped(arguments.delimiter)) if arguments.delimiter else None,
            tls=arguments.tls,
            address=parse_address(arguments.address) if arguments.address else None,
        )
    except OSError as error:
        raise UsageError(f"the recording cannot be read: {error}") from None
    with told_to_stop() as told:
        print(
            f"replaying {arguments.file} as {mock.running.kind} on {format_address(mock.address)}", flush=True
        )
        told.wait()
        try:
            mock.stop()
        except MockFailed as failure:
            print(failure, file=sys.stderr)
            return FOUND
    print(f"stopped after {len(mock.conversations)} conversation(s), all as recorded")
    return FINE


def _scrubs(patterns: list[str]) -> list[str | bytes]:
    from ..mocks import SECRETS

    return [pattern if pattern in SECRETS else pattern.encode() for pattern in patterns]


def _timing(text: str) -> Any:
    if text in ("none", "original"):
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--timing is none, original or a factor such as 0.1, not {text!r}") from None


def _unescaped(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")

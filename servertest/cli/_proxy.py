"""`servertest proxy`: a proxy with faults between any client and any server, and Toxiproxy's API."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

from .._support import UsageError
from ._proxy_events import Events
from ._status import BROKEN, FINE

if TYPE_CHECKING:
    from ..proxy.toxiproxy import ApiServer, Collection

__all__ = ("add_to",)

_NAME = "default"
_API = "8474"

_DESCRIPTION = """\
Put a proxy between clients and a server, with faults on the way. The first line that it prints says where, as soon as it takes clients; at
the end (Ctrl-C, SIGTERM) comes a table of what the faults did. With --api it serves Toxiproxy's HTTP API, which existing
Toxiproxy clients speak.
"""


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "proxy",
        help="break the network between a client and a server, on purpose and repeatably",
        description=_DESCRIPTION,
    )
    _add_link(parser.add_argument_group("a proxy"))
    _add_tls(parser.add_argument_group("TLS (passes through untouched if nothing is said)"))
    several = parser.add_argument_group("many proxies")
    several.add_argument(
        "--api",
        nargs="?",
        const=_API,
        metavar="[HOST:]PORT",
        help=f"serve Toxiproxy's HTTP API (default: {_API}, on 127.0.0.1)",
    )
    several.add_argument("--config", metavar="FILE.json", help="proxies to begin with, as for Toxiproxy")
    parser.add_argument(
        "--seed", metavar="SEED", help="repeat what was drawn with this seed (default: a new one)"
    )
    parser.add_argument(
        "--json", action="store_true", help="what happens, as it happens, one JSON object a line"
    )
    parser.add_argument(
        "--i-own-this-host",
        action="store_true",
        help="let it listen on addresses that other machines can reach",
    )
    parser.set_defaults(run=run)


def _add_link(group: Any) -> None:
    group.add_argument(
        "--upstream", metavar="ADDRESS", help="where the server is: HOST:PORT, a path, or @NAME"
    )
    group.add_argument(
        "--listen", metavar="ADDRESS", help="where clients come in (default: a free loopback address)"
    )
    group.add_argument(
        "--transport", choices=("stream", "datagram"), help="TCP and its like, or UDP (default: stream)"
    )
    for option, about in (
        (
            "--fault",
            "what goes wrong both ways, such as latency:50ms,jitter:10ms or 3g; may be given several times",
        ),
        ("--upstream-fault", "likewise, for what clients send"),
        ("--downstream-fault", "likewise, for what the server sends"),
    ):
        group.add_argument(option, action="append", default=[], metavar="TEXT", help=about)
    group.add_argument("--transcript", metavar="FILE.wire", help="write down what passed, at the end")


def _add_tls(group: Any) -> None:
    group.add_argument(
        "--tls",
        nargs="?",
        const=True,
        metavar="PROFILE",
        help="end the client's side here; PROFILE may name a fault such as expired, or a file with certificate and key",
    )
    group.add_argument(
        "--tls-ca", metavar="FILE.pem", help="write down the certificate that clients have to trust"
    )
    group.add_argument(
        "--upstream-tls",
        nargs="?",
        const="system",
        metavar="TRUST",
        help="begin the server's side here; TRUST is system, any, or a file with certificates (default: system)",
    )
    group.add_argument("--server-name", metavar="NAME", help="the name to check at the server")


def run(arguments: argparse.Namespace) -> int:
    """Proxy until a signal comes. Exit status 3 if servertest itself broke."""
    from ..proxy.toxiproxy import Collection, load_config

    _check(arguments)
    config = load_config(arguments.config) if arguments.config else None
    seed = _seed(arguments.seed)
    if seed is None and config is not None:
        seed = config.seed
    queue: SimpleQueue[Any] = SimpleQueue()
    events = Events(queue, as_json=arguments.json)
    with contextlib.ExitStack() as stack:
        transcript = _opened(stack, arguments.transcript)
        stack.enter_context(_signals_to(queue))
        collection = stack.enter_context(
            Collection(
                seed=seed,
                expose=arguments.i_own_this_host,
                recorded=(_NAME,) if transcript else (),
                watch=events.watch,
            )
        )
        _fill(collection, arguments, config.proxies if config else [])
        _write_authority(arguments.tls_ca)
        api = _api(stack, collection, arguments)
        events.began(collection, api)
        with contextlib.suppress(BrokenPipeError):
            events.print_until_stopped()
        if api is not None:
            api.stop()
        collection.stop()
        events.ended(collection)
        _write_transcript(collection, transcript)
        return BROKEN if api is not None and events.tell_errors(api.errors) else FINE


def _check(arguments: argparse.Namespace) -> None:
    if arguments.upstream is None:
        for name in (
            "listen",
            "transport",
            "fault",
            "upstream_fault",
            "downstream_fault",
            "transcript",
            "tls",
        ):
            if getattr(arguments, name):
                raise UsageError(
                    f"--{name.replace('_', '-')} is for a proxy: say where the server is with --upstream"
                )
        if arguments.api is None and arguments.config is None:
            raise UsageError("say where the server is with --upstream, or take --api or --config")
    if arguments.tls is None and arguments.tls_ca is not None:
        raise UsageError("--tls-ca goes with --tls: without it TLS passes through untouched")
    if arguments.upstream_tls is None and arguments.server_name is not None:
        raise UsageError("--server-name goes with --upstream-tls: without it nobody looks at the name")


def _seed(text: str | None) -> int | str | None:
    if text is None:
        return None
    return int(text) if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 4000 else text


def _fill(collection: Collection, arguments: argparse.Namespace, proxies: list[Any]) -> None:
    from ..proxy.toxiproxy import ApiProblem

    try:
        if arguments.upstream is not None:
            collection.create(_wanted(arguments))
        list(collection.populate(proxies))
    except ApiProblem as problem:
        message = problem.message.replace("bad request body: ", "")
        raise UsageError(message.replace("say expose=True", "say --i-own-this-host")) from None


def _wanted(arguments: argparse.Namespace) -> dict[str, Any]:
    """The command line's own proxy, as the API would be asked for it."""
    return {
        "name": _NAME,
        "listen": arguments.listen,
        "upstream": arguments.upstream,
        "transport": arguments.transport,
        "seed": _seed(arguments.seed),
        "tls": arguments.tls,
        "upstream_tls": arguments.upstream_tls,
        "server_hostname": arguments.server_name,
        "toxics": list(_toxics(arguments)),
    }


def _toxics(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from ..faults import plan
    from ..proxy._accepting import check_faults

    number = 0
    for option, stream in (
        ("fault", "both"),
        ("upstream_fault", "upstream"),
        ("downstream_fault", "downstream"),
    ):
        for text in getattr(arguments, option):
            try:
                faults = plan(text)
                check_faults(faults, arguments.transport or "stream")
                if not faults:
                    raise UsageError("there is no fault")
            except UsageError as error:
                raise UsageError(f"--{option.replace('_', '-')} {text!r}: {error}") from None
            number += 1
            yield {
                "type": "faults",
                "name": f"fault_{number}",
                "stream": stream,
                "attributes": {"text": text},
            }


def _api(
    stack: contextlib.ExitStack, collection: Collection, arguments: argparse.Namespace
) -> ApiServer | None:
    if arguments.api is None:
        return None
    from ..proxy.toxiproxy import ApiServer

    host, _, port = arguments.api.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535):
        raise UsageError(f"--api is [HOST:]PORT, with a port from 0 to 65535, not {arguments.api!r}")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    return stack.enter_context(
        ApiServer(collection, host=host, port=int(port), expose=arguments.i_own_this_host)
    )


@contextlib.contextmanager
def _signals_to(queue: SimpleQueue[Any]) -> Iterator[None]:
    """Let the signals that end it be heard in the queue."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, lambda *_: queue.put(None)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# -- files


def _opened(stack: contextlib.ExitStack, name: str | None) -> TextIO | None:
    """Opened at the beginning, so that a wrong name is told at once."""
    if name is None:
        return None
    try:
        return stack.enter_context(open(name, "w", encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--transcript cannot be written: {error}") from None


def _write_transcript(collection: Collection, file: TextIO | None) -> None:
    from ..transcript import write_wire

    for proxy in collection:
        if file is not None and proxy.name == _NAME and proxy.link is not None:
            assert proxy.link.transcript is not None
            write_wire(proxy.link.transcript.events, file)


def _write_authority(name: str | None) -> None:
    if name is None:
        return
    from ..tls import shared_authority

    try:
        # Whole or not at all: who waits for the file must not read half of it.
        with open(f"{name}.part", "wb") as file:
            file.write(shared_authority().certificate)
        os.replace(f"{name}.part", name)
    except OSError as error:
        raise UsageError(f"--tls-ca cannot be written: {error}") from None

"""What the tests of the selector servers share: handlers, a server that remembers its calls, and a conversation without any server."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from servertest.servers._selecting import SelectorStreamRequestHandler, SelectorTCPServer
from tests.servers._witness import WitnessMixIn

__all__ = ("Handler", "Upper", "Witness", "WitnessMixIn", "converse", "peer_does", "small_buffers", "turns")

Handler = SelectorStreamRequestHandler


class Upper(SelectorStreamRequestHandler):
    """Sends back each line in capitals."""

    async def handle(self) -> None:
        while line := await self.rfile.readline():
            await self.wfile.write(line.upper())


class Witness(WitnessMixIn, SelectorTCPServer):
    """A server of the plain kind that remembers."""


def converse(
    script: Callable[[Any, socket.socket], Awaitable[Any]],
    base: type[SelectorStreamRequestHandler] = Handler,
    **attributes: Any,
) -> Any:
    """Run `script(handler, peer)` as the handle() of a handler of one end of a socket pair; `peer` is the other. Returns what it returns.

    All of it happens in this thread, so what the peer does comes exactly where it is written. See peer_does() for what it does while
    the handler waits.
    """
    result: list[Any] = []

    async def handle(self: Any) -> None:
        result.append(await script(self, theirs))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        type("Conversing", (base,), {"timeout": 5, **attributes, "handle": handle})(ours, "the peer", None)
    return result[0]


def peer_does(handler: Any, *actions: Callable[[], object]) -> None:
    """While the handler waits next, the peer does these things, one in each turn of the loop."""

    def act() -> None:
        actions[0]()
        peer_does(handler, *actions[1:])

    if actions:
        handler._servertest_task.loop.call_soon(act)


async def turns(handler: SelectorStreamRequestHandler, number: int = 5) -> None:
    """Let the loop turn so many times, and see to what is ready in each."""
    for _ in range(number):
        await handler.sleep(0)


def small_buffers(*ends: socket.socket) -> None:
    """Have the kernel hold as little as it can be made to, so that a few kilobytes are too many."""
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)

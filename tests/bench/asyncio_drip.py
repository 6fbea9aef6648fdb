"""The same drip as plainly as asyncio has it, for comparison: a protocol and a timer for each client.

``python -m tests.bench.asyncio_drip HOST PORT CLIENTS SECONDS`` says when all are there, and then how late the worst was and what was sent.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from servertest.swarm._limits import require_descriptors

__all__ = ("Dripping",)

_AT_ONCE = 256


class Dripping(asyncio.Protocol):
    """Sends a byte a second, each by its own timetable."""

    __slots__ = ("due", "late", "loop", "sent", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.late = 0.0
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.due = self.loop.time()
        self.drip()

    def drip(self) -> None:
        """A byte, and the timer of the next."""
        self.late = max(self.late, self.loop.time() - self.due)
        self.transport.write(b"x")
        self.sent += 1
        self.due += 1
        self.loop.call_at(self.due, self.drip)


async def play(host: str, port: int, clients: int, seconds: float) -> None:
    """All of them."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    protocols: list[Dripping] = []
    for first in range(0, clients, _AT_ONCE):
        made = await asyncio.gather(
            *(
                loop.create_connection(lambda: Dripping(loop), host, port)
                for _ in range(min(_AT_ONCE, clients - first))
            )
        )
        protocols += [protocol for _, protocol in made]
    print(json.dumps({"connected": loop.time() - begun}), flush=True)
    await asyncio.sleep(seconds)
    sent = [each.sent for each in protocols]
    late = max(each.late for each in protocols)
    print(json.dumps({"late": late, "sent": [min(sent), max(sent)]}), flush=True)


if __name__ == "__main__":
    gc.disable()  # as ours
    require_descriptors(int(sys.argv[3]))
    asyncio.run(play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))

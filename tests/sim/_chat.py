"""A scene in which much is left to chance; run as a program it prints what became of it."""

import hashlib
import random
import socketserver
import sys
import threading
import time
from functools import partial
from typing import Any

from servertest.faults import Latency, Slicer
from servertest.sim import Link, Simulation
from servertest.transcript import dump_wire

__all__ = ("chat",)


class Room:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.members: list[Any] = []


class Member(socketserver.StreamRequestHandler):
    timeout = 30
    room: Room

    def handle(self) -> None:
        with self.room.lock:
            self.room.members.append(self.wfile)
        try:
            for line in self.rfile:
                time.sleep(random.random() / 100)
                with self.room.lock:
                    for member in self.room.members:
                        try:
                            member.write(line)
                        except OSError:
                            pass
        except OSError:
            pass
        finally:
            with self.room.lock:
                self.room.members.remove(self.wfile)


def chat(net: Simulation) -> None:
    Member.room = Room()
    server = net.serve(Member, kind=socketserver.ThreadingTCPServer)

    def talk(name: bytes) -> int:
        with server.connect() as client:
            for number in range(3):
                client.send(name + b" says %d\n" % number)
                time.sleep(random.random())
            received = 0
            try:
                while client.read_some(timeout=2):
                    received += 1
            except TimeoutError:
                pass
            if name == b"rude":
                client.reset()
            return received

    assert all(net.run_all([partial(talk, name) for name in (b"anna", b"rude", b"otto")]))


def options() -> dict[str, Any]:
    return {
        "link": Link(latency=0.01, jitter=0.005, bandwidth=100_000, loss=0.05),
        "faults": Latency(0.002, jitter=0.002) | Slicer(average_size=5),
    }


def main(seeds: int) -> None:
    whole = hashlib.sha256()
    for seed in range(seeds):
        net = Simulation(seed, **options())
        with net:
            chat(net)
        whole.update(net.digest.encode())
        whole.update(dump_wire(net.transcript.events).encode())
    print(whole.hexdigest())


if __name__ == "__main__":
    main(int(sys.argv[1]))

"""What a simulation costs: ``python -m tests.bench.simulation``."""

import resource
import socket
import socketserver
import time
from collections.abc import Callable

from servertest.sim import Link, Simulation

__all__ = ("main",)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1000):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 5000


def best(function: Callable[[], float], times: int = 5) -> float:
    return min(function() for _ in range(times))


def empty() -> float:
    begun = time.perf_counter()
    with Simulation():
        pass
    return time.perf_counter() - begun


def dripping() -> float:
    begun = time.perf_counter()
    with Simulation() as net, socket.create_connection(net.serve(Server, Echo).address) as client:
        for _ in range(60):
            client.sendall(b"x")
            client.recv(1)
            time.sleep(60)
    return time.perf_counter() - begun


def crowd(clients: int, exchanges: int, link: Link) -> Callable[[], float]:
    def run() -> float:
        begun = time.perf_counter()
        with Simulation(link=link) as net:
            server = net.serve(Server, Echo)

            def talk() -> None:
                with socket.create_connection(server.address) as client:
                    for _ in range(exchanges):
                        client.sendall(bytes(50))
                        client.recv(100)

            net.run_all([talk] * clients)
        return time.perf_counter() - begun

    return run


def main() -> None:
    print(f"{'entering and leaving':<44}{best(empty) * 1e3:8.1f} ms")
    print(f"{'an hour of one byte a minute':<44}{best(dripping) * 1e3:8.1f} ms")
    for clients, exchanges in ((10, 200), (100, 50), (1000, 10)):
        for name, link in (("no latency", Link()), ("10 ms +- 5 ms", Link(latency=0.01, jitter=0.005))):
            seconds = best(crowd(clients, exchanges, link), 3)
            rate = clients * exchanges * 4 / seconds
            print(f"{f'{clients} clients, {name}':<44}{seconds:8.2f} s  {rate:8.0f} calls a second")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()

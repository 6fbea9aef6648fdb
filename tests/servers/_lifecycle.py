"""The lives that every server class must be able to lead, and the process in which it leads them.

Each Life has two sides. `serve` runs in a child process made for this one life: the server's loop in its main thread, so that a
signal handler may interrupt it and a forking server forks from a process without other threads. `drive` runs in the test, is the
client, and sends the signal at which `serve` stops the server in its own way. When `serve` has returned, nothing may be left.

Started as a file with the name of the module under test, this is the host: it has imported that module and forks a child for
each life that it reads of on stdin. Only the standard library is imported here, and no thread is started in the host.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any, Protocol

__all__ = ("LIVES", "Client", "Life")

LIMIT = 20.0  # seconds that anything in here may take before it counts as hanging


class Client(Protocol):
    """What the test's side of a life can do, and needs to know of the class."""

    is_stream: bool
    is_synchronous: bool  # one request at a time, in the loop
    forks: bool  # a child for each request

    def await_event(self, event: str) -> object:
        """Wait until the child's side says `event`."""

    def exchange(self, request: bytes = b"hello\n", *, to_the_end: bool = True) -> None:
        """Send a line, on a connection of its own, and see it come back in capitals, and the connection end."""

    def provoke(self, request: bytes) -> None:
        """Send a line that gets no reply."""

    def converse(self) -> Any:
        """Context of an open connection: a function that sends a line and sees it come back."""

    def signal(self) -> None:
        """Tell the child's side that its moment has come."""


class Stage:
    """What the child's side of a life can do."""

    def __init__(self, server_class: Any, handler: Any, address: Any, say: Callable[..., None]) -> None:
        self._class = server_class
        self._handler = handler
        self._address = address
        self._say = say
        self._threads: list[threading.Thread] = []

    def make(self, address: Any = None) -> Any:
        return self._class(self._address if address is None else address, self._handler)

    def on_signal(self, *actions: Callable[[], object]) -> None:
        """Call these when the test says so, in the main thread, whatever that is doing then."""
        signal.signal(signal.SIGUSR1, lambda *_: [action() for action in actions])

    def in_thread(self, action: Callable[[], object]) -> Callable[[], None]:
        """A function that starts a thread which does `action`."""

        def start() -> None:
            thread = threading.Thread(target=action, name="stage", daemon=True)
            self._threads.append(thread)
            thread.start()

        return start

    def say(self, event: str, server: Any = None) -> None:
        self._say(event, address=_plain(server.server_address) if server else None)

    def serve(self, server: Any) -> None:
        self.say("serving", server)
        server.serve_forever()
        self.join()

    def await_signal(self, event: str) -> None:
        """Say `event`, and wait for the test's word: closing at once would take the socket from a datagram's reply."""
        # The interpreter's own C handler writes to the pipe: one in Python may come too late to interrupt the wait.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        self.on_signal()
        self.say(event)
        ready, _, _ = select.select([reader], [], [], LIMIT)
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)
        assert ready, "no word from the test"

    def join(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive(), f"{thread.name} hangs"
        self._threads.clear()


def _plain(address: Any) -> Any:
    return os.fsdecode(address) if isinstance(address, bytes) else address


@dataclass(frozen=True, slots=True)
class Life:
    """One way to live; `is_cure` says that the standard module's servers cannot."""

    serve: Callable[[Stage], object]
    drive: Callable[[Client], None]
    is_cure: bool = False

    def __str__(self) -> str:
        return self.serve.__name__


def stopped_by_a_thread(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown))
    stage.serve(server)
    server.server_close()
    assert server.fileno() == -1


def stopped_by_a_signal_handler(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(server.shutdown)
    stage.serve(server)
    server.server_close()


def stopped_by_its_handler(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(server.shutdown)  # for those whose handlers run in another process
    stage.serve(server)
    stage.await_signal("stopped")
    server.server_close()


def stopped_before_its_loop(stage: Stage) -> None:
    server = stage.make()
    server.shutdown()
    server.serve_forever()
    stage.on_signal(server.shutdown)
    stage.serve(server)
    server.server_close()


def stopped_twice(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown), stage.in_thread(server.shutdown))
    stage.serve(server)
    server.shutdown()
    server.server_close()
    server.shutdown()


def closed_while_it_serves(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.server_close))
    stage.serve(server)
    server.server_close()


def closed_by_a_with_block(stage: Stage) -> None:
    with stage.make() as server:
        stage.on_signal(stage.in_thread(server.shutdown))
        stage.serve(server)
    assert server.fileno() == -1


def never_served(stage: Stage) -> None:
    stage.make().server_close()


def stopped_and_closed_but_never_served(stage: Stage) -> None:
    server = stage.make()
    server.shutdown()
    server.server_close()


def closed_and_then_served(stage: Stage) -> None:
    server = stage.make()
    server.shutdown()
    server.server_close()
    server.serve_forever()


def served_twice(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown))
    stage.serve(server)
    stage.serve(server)
    server.server_close()


def restarted_on_its_address(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown))
    stage.serve(server)
    server.server_close()
    address = server.server_address
    if isinstance(address, str):
        os.unlink(address)
    successor = stage.make(address)
    assert successor.server_address == address
    stage.on_signal(stage.in_thread(successor.shutdown))
    stage.serve(successor)
    successor.server_close()


def served_request_by_request(stage: Stage) -> None:
    with stage.make() as server:
        server.timeout = LIMIT
        stage.say("serving", server)
        server.handle_request()
        server.handle_request()
        stage.await_signal("served")


def survivor_of_a_failing_handler(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown))
    stage.serve(server)
    server.server_close()


def stopped_with_an_open_connection(stage: Stage) -> None:
    server = stage.make()
    stage.on_signal(stage.in_thread(server.shutdown))
    stage.serve(server)
    stage.say("stopped")
    server.server_close()


def one_exchange(client: Client) -> None:
    client.await_event("serving")
    client.exchange()
    client.signal()


def two_loops(client: Client) -> None:
    one_exchange(client)
    one_exchange(client)


def two_requests(client: Client) -> None:
    client.await_event("serving")
    client.exchange()
    client.exchange()
    client.await_event("served")
    client.signal()


def ask_to_stop(client: Client) -> None:
    client.await_event("serving")
    client.exchange(
        b"stop\n", to_the_end=False
    )  # where the loop is what reads, nobody sees that the client has closed
    if client.forks:  # a child can stop but itself: others are served on
        client.exchange()
        client.signal()
    client.await_event("stopped")
    client.signal()


def fail_then_exchange(client: Client) -> None:
    client.await_event("serving")
    client.provoke(b"fail\n")
    client.exchange()
    client.signal()


def keep_talking(client: Client) -> None:
    if not client.is_stream:
        one_exchange(client)
        client.await_event("stopped")
        return
    client.await_event("serving")
    with client.converse() as say:
        say(b"before\n")
        client.signal()
        if not client.is_synchronous:
            client.await_event("stopped")
            say(b"after\n")
    if client.is_synchronous:
        client.await_event("stopped")


def nothing(client: Client) -> None:
    pass


LIVES = (
    Life(stopped_by_a_thread, one_exchange),
    Life(stopped_by_a_signal_handler, one_exchange, is_cure=True),
    Life(stopped_by_its_handler, ask_to_stop, is_cure=True),
    Life(stopped_before_its_loop, one_exchange, is_cure=True),
    Life(stopped_twice, one_exchange),
    Life(closed_while_it_serves, one_exchange, is_cure=True),
    Life(closed_by_a_with_block, one_exchange),
    Life(never_served, nothing),
    Life(stopped_and_closed_but_never_served, nothing, is_cure=True),
    Life(closed_and_then_served, nothing, is_cure=True),
    Life(served_twice, two_loops),
    Life(restarted_on_its_address, two_loops),
    Life(served_request_by_request, two_requests),
    Life(survivor_of_a_failing_handler, fail_then_exchange),
    Life(stopped_with_an_open_connection, keep_talking),
)


# -- the host ---------------------------------------------------------------------------------------------------------------


def handler_for(module: Any, server_class: Any) -> Any:
    """Answers each line, or datagram, with its capitals. The lines "stop" and "fail" do as they say."""

    def reply(handler: Any, line: bytes) -> bytes:
        if line == b"stop\n":
            handler.server.shutdown()
        if line == b"fail\n":
            raise RuntimeError("as it was told")
        return line.upper()

    class Lines(module.StreamRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(reply(self, line))

    class Datagrams(module.DatagramRequestHandler):  # type: ignore[misc]
        def handle(self) -> None:
            self.wfile.write(reply(self, self.rfile.read()))

    if server_class.socket_type == SOCK_DGRAM:
        return Datagrams
    if not issubclass(server_class, getattr(module, "SelectorMixIn", ())):
        return Lines

    class Cooperative(module.SelectorStreamRequestHandler):  # type: ignore[misc]
        async def handle(self) -> None:
            while line := await self.rfile.readline():
                await self.wfile.write(reply(self, line))

    return Cooperative


def prepared(server_class: Any) -> Any:
    """The class, but ready to be restarted at once and silent about handlers that fail on purpose."""

    class Prepared(server_class):  # type: ignore[misc]
        allow_reuse_address = server_class.socket_type == SOCK_STREAM
        if hasattr(server_class, "max_connections"):
            drain_timeout = (
                LIMIT  # a selector-driven server ends open connections at once, unless told otherwise
            )

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    Prepared.__name__ = Prepared.__qualname__ = server_class.__name__
    return Prepared


def descriptors() -> dict[int, str]:
    """What this process has open."""
    found = {}
    for fd in map(int, os.listdir("/dev/fd")):
        try:
            os.fstat(fd)
        except OSError:
            continue  # it was the descriptor of the listing itself
        link = f"/dev/fd/{fd}"
        found[fd] = os.readlink(link) if os.path.islink(link) else "?"
    return found


def left_over(before: dict[int, str]) -> list[str]:
    """What a life has left behind in this process."""
    left = [
        f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()
    ]
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.append(f"child {pid or 'that runs'}")
    except ChildProcessError:
        pass
    after = descriptors()
    left += [f"descriptor {fd}: {after[fd]}" for fd in after.keys() - before.keys()]
    left += [f"closed a descriptor that was not its own: {before[fd]}" for fd in before.keys() - after.keys()]
    return left


def live(module: Any, job: dict[str, Any], say: Callable[..., None]) -> None:
    """One life, in a process made for it."""
    server_class = getattr(module, job["class"])
    address = job["address"] if isinstance(job["address"], str) else tuple(job["address"])
    life = next(life for life in LIVES if str(life) == job["lead"])
    stage = Stage(prepared(server_class), handler_for(module, server_class), address, say)
    before = descriptors()
    life.serve(stage)
    if getattr(server_class, "daemon_threads", False):  # such a server waits for nobody, by contract
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(LIMIT)
    say("left", left=left_over(before))


def host(module: Any) -> None:
    for line in sys.stdin:
        job = json.loads(line)

        def say(event: str, number: int = job["number"], **fields: object) -> None:
            os.write(
                sys.stdout.fileno(), (json.dumps({"event": event, "life": number, **fields}) + "\n").encode()
            )

        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)  # so that the test can end all that belongs to this life
            say("born", pid=os.getpid())
            live(module, job, say)
            return
        _, status = os.waitpid(pid, 0)
        say("ended", code=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    faulthandler.enable()  # the test ends a life that hangs with SIGABRT: the stacks are in its stderr
    host(import_module(sys.argv[1]))

"""What sockets do, as scenes that run on the kernel and in a simulation alike. Each gives a list of outcomes to compare."""

import contextlib
import io
import os
import select
import selectors
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

__all__ = ("SCENARIOS", "Stage")

SCENARIOS: dict[str, Callable[["Stage"], None]] = {}
ABORT = struct.pack("ii", 1, 0)


def scenario(function: Callable[["Stage"], None]) -> Callable[["Stage"], None]:
    SCENARIOS[function.__name__] = function
    return function


class Stage:
    """What a scene needs; it closes everything at the end."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self._stack = contextlib.ExitStack()
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for thread in self.threads:
            thread.join(20)
        self._stack.close()

    def note(self, value: Any) -> None:
        self.outcomes.append(value)

    def do(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Call something and note how it ends."""
        try:
            result = function(*args, **keywords)
        except OSError as error:
            self.note((type(error).__name__, error.errno))
            return None
        except (ValueError, TypeError) as error:
            self.note(type(error).__name__)
            return None
        self.note(
            result if isinstance(result, (bytes, int, str, type(None), list, tuple, bool, float)) else "done"
        )
        return result

    def keep(self, sock: Any) -> Any:
        self._stack.callback(sock.close)
        return sock

    def open(self, *args: Any) -> socket.socket:
        sock: socket.socket = self.keep(socket.socket(*args))
        return sock

    def listener(self, backlog: int = 5) -> socket.socket:
        sock = self.open()
        sock.bind(("127.0.0.1", 0))
        sock.listen(backlog)
        return sock

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Client and server of one TCP connection, with a limit to every wait."""
        listener = self.listener()
        client = self.keep(socket.create_connection(listener.getsockname(), timeout=5))
        server = self.keep(listener.accept()[0])
        server.settimeout(5)
        return client, server

    def unix(self, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, str]:
        sock = self.open(socket.AF_UNIX, kind)
        path = self.path()
        sock.bind(path)
        if kind == socket.SOCK_STREAM:
            sock.listen(5)
        return sock, path

    def unix_pair(self) -> tuple[socket.socket, socket.socket]:
        listener, path = self.unix()
        client = self.open(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(path)
        server = self.keep(listener.accept()[0])
        server.settimeout(5)
        return client, server

    def path(self) -> str:
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="s"))
        return os.path.join(directory, "s")

    def udp(self, *, bound: bool = True) -> socket.socket:
        sock = self.open(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(5)
        if bound:
            sock.bind(("127.0.0.1", 0))
        return sock

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        thread = threading.Thread(target=function, args=args)
        self.threads.append(thread)
        thread.start()

    def later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        def wait_and_call() -> None:
            time.sleep(seconds)
            function(*args)

        self.start(wait_and_call)

    def events(self, sock: Any, wanted: int = select.POLLIN | select.POLLOUT | select.POLLRDHUP) -> None:
        """Note what poll says at once."""
        poller = select.poll()
        poller.register(sock, wanted)
        self.note([event for _, event in poller.poll(0)])

    def until(self, sock: Any, wanted: int = select.POLLIN) -> None:
        """Wait until an event is there."""
        poller = select.poll()
        poller.register(sock, wanted)
        assert poller.poll(5000)


def refused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@scenario
def bytes_come_as_they_were_sent(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"hello")
    stage.until(server)
    stage.do(server.recv, 3)
    stage.do(server.recv, 100)


@scenario
def half_close_and_answer(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)
    stage.do(server.sendall, b"answer")
    server.close()
    stage.do(client.recv, 100)
    stage.do(client.recv, 100)


@scenario
def nothing_can_be_sent_after_a_half_close(stage: Stage) -> None:
    client, _ = stage.pair()
    client.shutdown(socket.SHUT_WR)
    stage.do(client.send, b"x")
    stage.do(client.shutdown, socket.SHUT_WR)


@scenario
def linger_of_zero_is_a_reset(stage: Stage) -> None:
    client, server = stage.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    client.close()
    stage.until(server)
    stage.events(server)
    stage.do(server.recv, 10)
    stage.do(server.recv, 10)
    stage.do(server.send, b"x")


@scenario
def data_before_a_reset_can_be_read(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"last words")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    client.close()
    stage.until(server, select.POLLRDHUP)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)


@scenario
def unread_data_make_a_reset_of_a_close(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"not read")
    stage.until(server)
    server.close()
    stage.until(client)
    stage.do(client.recv, 10)
    stage.do(client.recv, 10)


@scenario
def write_after_the_peer_has_closed(stage: Stage) -> None:
    client, server = stage.pair()
    server.close()
    stage.until(client)
    stage.do(client.send, b"one")
    stage.until(client, select.POLLERR)
    stage.do(client.send, b"two")
    stage.do(client.send, b"three")
    stage.do(client.recv, 10)


@scenario
def read_after_a_reset_that_follows_a_fin(stage: Stage) -> None:
    client, server = stage.pair()
    server.close()
    stage.until(client)
    client.send(b"one")
    stage.until(client, select.POLLERR)
    stage.do(client.recv, 10)
    stage.do(client.recv, 10)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.send, b"two")


@scenario
def a_pending_error_is_told_once(stage: Stage) -> None:
    client, server = stage.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    server.close()
    stage.until(client)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.recv, 10)
    stage.do(client.send, b"x")


@scenario
def send_gets_the_pending_error_first(stage: Stage) -> None:
    client, server = stage.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    server.close()
    stage.until(client)
    stage.do(client.send, b"x")
    stage.do(client.send, b"x")


@scenario
def recv_waits_no_longer_than_its_timeout(stage: Stage) -> None:
    client, _ = stage.pair()
    client.settimeout(0.05)
    begun = time.monotonic()
    stage.do(client.recv, 1)
    stage.note(0.05 <= time.monotonic() - begun < 1)


@scenario
def accept_waits_no_longer_than_its_timeout(stage: Stage) -> None:
    listener = stage.listener()
    listener.settimeout(0.05)
    stage.do(listener.accept)


@scenario
def sockets_that_do_not_block(stage: Stage) -> None:
    client, server = stage.pair()
    client.setblocking(False)
    stage.do(client.recv, 1)
    stage.note(client.getblocking())
    stage.note(client.gettimeout())
    server.sendall(b"x")
    stage.until(client)
    stage.do(client.recv, 10)


@scenario
def accept_that_does_not_block(stage: Stage) -> None:
    listener = stage.listener()
    listener.setblocking(False)
    stage.do(listener.accept)


@scenario
def connect_that_does_not_block(stage: Stage) -> None:
    listener = stage.listener()
    client = stage.open()
    client.setblocking(False)
    stage.do(client.connect_ex, listener.getsockname())
    stage.until(client, select.POLLOUT)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.connect_ex, listener.getsockname())
    stage.do(client.connect_ex, listener.getsockname())
    stage.do(client.send, b"x")


@scenario
def connect_that_does_not_block_and_is_refused(stage: Stage) -> None:
    port = refused_port()
    client = stage.open()
    client.setblocking(False)
    stage.do(client.connect_ex, ("127.0.0.1", port))
    stage.until(client, select.POLLOUT)
    stage.events(client)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)


@scenario
def connect_is_refused(stage: Stage) -> None:
    port = refused_port()
    client = stage.open()
    stage.do(client.connect, ("127.0.0.1", port))
    stage.do(client.connect_ex, ("127.0.0.1", port))
    client.settimeout(5)
    stage.do(client.connect, ("127.0.0.1", port))
    stage.do(socket.create_connection, ("127.0.0.1", port))


@scenario
def connect_twice(stage: Stage) -> None:
    listener = stage.listener()
    client = stage.open()
    stage.do(client.connect, listener.getsockname())
    stage.do(client.connect, listener.getsockname())
    stage.do(client.connect_ex, listener.getsockname())


@scenario
def sockets_that_were_never_connected(stage: Stage) -> None:
    sock = stage.open()
    stage.do(sock.recv, 1)
    stage.do(sock.send, b"x")
    stage.do(sock.getpeername)
    stage.do(sock.shutdown, socket.SHUT_RDWR)
    stage.do(sock.getsockname)
    stage.events(sock)


@scenario
def listeners_neither_send_nor_receive(stage: Stage) -> None:
    listener = stage.listener()
    stage.do(listener.recv, 1)
    stage.do(listener.send, b"x")
    stage.do(listener.getpeername)
    stage.do(listener.connect, ("127.0.0.1", 9))
    stage.note(bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)))


@scenario
def only_listeners_accept(stage: Stage) -> None:
    sock = stage.open()
    stage.do(sock.accept)
    datagrams = stage.udp()
    datagrams.settimeout(None)
    stage.do(datagrams.accept)
    stage.do(datagrams.listen)


@scenario
def peek_leaves_everything_in_place(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"peekaboo")
    stage.until(server)
    stage.do(server.recv, 4, socket.MSG_PEEK)
    stage.do(server.recv, 4)
    stage.do(server.recv, 100, socket.MSG_PEEK)
    stage.do(server.recv, 100)


@scenario
def waitall_waits_for_all(stage: Stage) -> None:
    client, server = stage.pair()
    server.settimeout(None)

    def send() -> None:
        client.sendall(b"half ")
        time.sleep(0.03)
        client.sendall(b"whole")

    stage.start(send)
    stage.do(server.recv, 10, socket.MSG_WAITALL)


@scenario
def waitall_ends_with_the_stream(stage: Stage) -> None:
    client, server = stage.pair()
    server.settimeout(None)
    client.sendall(b"short")
    client.close()
    stage.do(server.recv, 10, socket.MSG_WAITALL)
    stage.do(server.recv, 10, socket.MSG_WAITALL)


@scenario
def dontwait_does_not_wait(stage: Stage) -> None:
    client, server = stage.pair()
    server.settimeout(None)
    stage.do(server.recv, 10, socket.MSG_DONTWAIT)
    client.sendall(b"x")
    stage.until(server)
    stage.do(server.recv, 10, socket.MSG_DONTWAIT)


@scenario
def recv_into_and_its_sizes(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"abcdefgh")
    stage.until(server)
    buffer = bytearray(4)
    stage.do(server.recv_into, buffer, 2)
    stage.note(bytes(buffer))
    stage.do(server.recv_into, memoryview(buffer)[1:])
    stage.note(bytes(buffer))
    stage.do(server.recv_into, buffer, 5)
    stage.do(server.recv_into, buffer, -1)
    stage.do(server.recv, -1)
    stage.do(server.recv, 0)
    stage.do(server.recvfrom, 100)


@scenario
def messages_in_pieces(stage: Stage) -> None:
    client, server = stage.pair()
    stage.do(client.sendmsg, [b"ab", bytearray(b"cd"), memoryview(b"ef")])
    stage.until(server)
    stage.do(server.recvmsg, 3)
    first, second = bytearray(2), bytearray(5)
    stage.do(server.recvmsg_into, [first, second])
    stage.note((bytes(first), bytes(second)))


@scenario
def empty_sends(stage: Stage) -> None:
    client, server = stage.pair()
    stage.do(client.send, b"")
    stage.do(client.sendall, b"")
    client.close()
    stage.do(server.recv, 1)


@scenario
def files_keep_the_socket_open(stage: Stage) -> None:
    client, server = stage.pair()
    reader = server.makefile("rb")
    server.close()
    stage.note(server.fileno() >= 0)
    client.sendall(b"line\n")
    stage.do(reader.readline)
    stage.do(server.recv, 1)
    reader.close()
    stage.note(server.fileno())
    stage.do(client.recv, 1)


@scenario
def files_read_lines_and_write(stage: Stage) -> None:
    client, server = stage.pair()
    file = server.makefile("rwb")
    client.sendall(b"one\ntwo\nthree")
    client.shutdown(socket.SHUT_WR)
    stage.note(list(file))
    file.write(b"answer")
    file.flush()
    file.close()
    server.close()
    stage.note(client.makefile("r").read())


@scenario
def files_after_a_timeout(stage: Stage) -> None:
    client, server = stage.pair()
    server.settimeout(0.03)
    reader = server.makefile("rb", buffering=0)
    stage.do(reader.read, 1)
    client.sendall(b"late")
    stage.do(reader.read, 1)
    reader.close()


@scenario
def duplicates_share_the_connection(stage: Stage) -> None:
    client, server = stage.pair()
    twin = stage.keep(server.dup())
    stage.note(twin.fileno() != server.fileno())
    server.close()
    stage.do(twin.send, b"still here")
    stage.do(client.recv, 100)
    stage.note(twin.getpeername() == client.getsockname())
    twin.close()
    stage.do(client.recv, 100)


@scenario
def sockets_on_a_descriptor(stage: Stage) -> None:
    client, server = stage.pair()
    fd = server.detach()
    stage.note(server.fileno())
    stage.do(server.recv, 1)
    again = stage.keep(socket.socket(fileno=fd))
    stage.note((again.family.name, again.type.name, again.fileno() == fd))
    client.sendall(b"x")
    again.settimeout(5)
    stage.do(again.recv, 1)


@scenario
def closed_sockets(stage: Stage) -> None:
    client, _ = stage.pair()
    client.close()
    client.close()
    stage.note(client.fileno())
    stage.do(client.recv, 1)
    stage.do(client.send, b"x")
    stage.do(client.sendall, b"x")
    stage.do(client.getsockname)
    stage.do(client.getpeername)
    stage.do(client.shutdown, socket.SHUT_RDWR)
    stage.do(client.settimeout, 1)
    stage.do(client.setblocking, True)
    stage.do(client.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
    stage.do(client.connect, ("127.0.0.1", 9))
    stage.do(client.listen)
    stage.do(client.accept)
    stage.do(client.bind, ("127.0.0.1", 0))
    stage.do(client.connect_ex, ("127.0.0.1", 9))


@scenario
def shutdown_for_reading(stage: Stage) -> None:
    client, server = stage.pair()
    client.sendall(b"before")
    stage.until(server)
    server.shutdown(socket.SHUT_RD)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)
    stage.events(server)
    stage.do(client.send, b"after")
    stage.do(server.send, b"other way")
    stage.do(client.recv, 100)


@scenario
def shutdown_for_both(stage: Stage) -> None:
    client, server = stage.pair()
    server.shutdown(socket.SHUT_RDWR)
    stage.do(server.recv, 1)
    stage.do(server.send, b"x")
    stage.do(client.recv, 1)
    stage.events(client)
    client.close()
    stage.until(server, select.POLLHUP)
    stage.do(server.shutdown, socket.SHUT_RDWR)
    stage.do(server.getpeername)


@scenario
def shutdown_in_a_way_that_is_none(stage: Stage) -> None:
    client, _ = stage.pair()
    stage.do(client.shutdown, 7)


@scenario
def shutdown_after_a_reset(stage: Stage) -> None:
    client, server = stage.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    server.close()
    stage.until(client)
    stage.do(client.shutdown, socket.SHUT_WR)
    stage.do(client.getpeername)


@scenario
def shutdown_of_a_listener_wakes_accept(stage: Stage) -> None:
    listener = stage.listener()
    stage.later(0.03, listener.shutdown, socket.SHUT_RDWR)
    stage.do(listener.accept)


@scenario
def shutdown_wakes_a_reader(stage: Stage) -> None:
    client, _ = stage.pair()
    client.settimeout(None)
    stage.later(0.03, client.shutdown, socket.SHUT_RD)
    stage.do(client.recv, 1)


@scenario
def a_sender_has_to_wait_for_its_reader(stage: Stage) -> None:
    client, server = stage.pair()
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.send(b"x" * 65536)
    stage.events(client, select.POLLOUT)
    stage.do(client.send, b"x" * 65536)
    client.settimeout(0.03)
    stage.do(client.sendall, b"x" * 65536)
    taken = 0
    while taken < sent:
        taken += len(server.recv(65536))
    stage.until(client, select.POLLOUT)
    stage.note(client.send(b"y") == 1)


@scenario
def a_long_send_goes_on_as_it_is_read(stage: Stage) -> None:
    client, server = stage.pair()
    payload = bytes(range(256)) * 20_000
    got = bytearray()

    def read() -> None:
        while chunk := server.recv(100_000):
            got.extend(chunk)

    stage.start(read)
    stage.do(client.sendall, payload)
    client.close()
    stage.threads[0].join(10)
    stage.note(bytes(got) == payload)


@scenario
def a_waiting_sender_learns_of_a_reset(stage: Stage) -> None:
    client, server = stage.pair()
    client.settimeout(10)

    def reset() -> None:
        time.sleep(0.05)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        server.close()

    stage.start(reset)
    stage.do(client.sendall, b"x" * 30_000_000)


@scenario
def a_waiting_reader_learns_of_a_reset(stage: Stage) -> None:
    client, server = stage.pair()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    stage.later(0.03, server.close)
    stage.do(client.recv, 1)


@scenario
def a_listener_that_closes_resets_who_waits(stage: Stage) -> None:
    listener = stage.listener()
    client = stage.keep(socket.create_connection(listener.getsockname(), timeout=5))
    client.sendall(b"hello?")
    listener.close()
    stage.until(client)
    stage.do(client.recv, 1)


@scenario
def connections_wait_to_be_accepted(stage: Stage) -> None:
    listener = stage.listener(1)
    clients = [stage.keep(socket.create_connection(listener.getsockname(), timeout=5)) for _ in range(2)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    for _ in clients:
        server, address = listener.accept()
        stage.keep(server)
        stage.note(address == server.getpeername())
        stage.do(server.recv, 1)


@scenario
def a_connection_that_is_gone_can_be_accepted(stage: Stage) -> None:
    listener = stage.listener()
    client = socket.create_connection(listener.getsockname(), timeout=5)
    client.sendall(b"bye")
    client.close()
    server, _ = listener.accept()
    stage.keep(server)
    stage.do(server.recv, 100)
    stage.do(server.recv, 100)


@scenario
def names_of_both_ends(stage: Stage) -> None:
    client, server = stage.pair()
    stage.note(client.getpeername() == server.getsockname())
    stage.note(client.getsockname() == server.getpeername())
    stage.note(client.getsockname()[0])


@scenario
def an_address_can_be_had_once(stage: Stage) -> None:
    listener = stage.listener()
    other = stage.open()
    stage.do(other.bind, listener.getsockname())
    other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    stage.do(other.bind, listener.getsockname())
    stage.do(listener.bind, ("127.0.0.1", 0))
    stage.do(other.bind, ("192.0.2.1", 0))
    stage.do(other.bind, "not a pair")


@scenario
def an_address_can_be_shared_on_request(stage: Stage) -> None:
    first, second = stage.open(), stage.open()
    for sock in (first, second):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    first.bind(("127.0.0.1", 0))
    first.listen()
    stage.do(second.bind, first.getsockname())
    stage.do(second.listen)


@scenario
def a_closed_listener_frees_its_address(stage: Stage) -> None:
    listener = stage.listener()
    address = listener.getsockname()
    listener.close()
    again = stage.open()
    stage.do(again.bind, address)
    stage.do(again.listen)


@scenario
def listen_without_bind(stage: Stage) -> None:
    sock = stage.open()
    stage.do(sock.listen)
    stage.note(sock.getsockname()[0])
    client = stage.open()
    stage.do(client.connect, ("127.0.0.1", sock.getsockname()[1]))


@scenario
def bound_clients_keep_their_port(stage: Stage) -> None:
    listener = stage.listener()
    client = stage.open()
    client.bind(("127.0.0.1", 0))
    name = client.getsockname()
    client.connect(listener.getsockname())
    stage.note(client.getsockname() == name)
    server, address = listener.accept()
    stage.keep(server)
    stage.note(address == name)


@scenario
def options_that_programs_ask_for(stage: Stage) -> None:
    sock = stage.open()
    stage.note(sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM)
    stage.note(sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stage.note(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stage.note(bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10_000)
    stage.note(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
    stage.note((sock.family.name, sock.type.name, sock.proto, sock.get_inheritable()))
    stage.do(sock.settimeout, -1)


@scenario
def sendfile_sends_files(stage: Stage) -> None:
    client, server = stage.pair()
    stage.do(client.sendfile, io.BytesIO(b"in memory"))
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789" * 500)
        file.seek(0)
        stage.do(client.sendfile, file, 10, 4000)
    client.close()
    stage.note(len(server.makefile("rb").read()))


# -- waiting for several


@scenario
def poll_of_a_connection_through_its_life(stage: Stage) -> None:
    client, server = stage.pair()
    stage.events(client)
    server.sendall(b"x")
    stage.until(client)
    stage.events(client)
    server.shutdown(socket.SHUT_WR)
    stage.until(client, select.POLLRDHUP)
    stage.events(client)
    client.recv(1)
    stage.events(client)
    client.shutdown(socket.SHUT_WR)
    stage.until(server, select.POLLHUP | select.POLLRDHUP)
    stage.events(client)
    stage.events(server)


@scenario
def poll_of_a_closed_descriptor(stage: Stage) -> None:
    sock = stage.open()
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    sock.close()
    stage.note([event for _, event in poller.poll(0)])
    stage.do(poller.register, sock)
    stage.do(poller.modify, 1 << 29, 1)


@scenario
def poll_waits_for_a_listener(stage: Stage) -> None:
    listener = stage.listener()
    stage.events(listener)
    stage.keep(socket.create_connection(listener.getsockname(), timeout=5))
    stage.until(listener)
    stage.events(listener)


@scenario
def poll_waits_no_longer_than_it_may(stage: Stage) -> None:
    listener = stage.listener()
    poller = select.poll()
    poller.register(listener)
    begun = time.monotonic()
    stage.note(poller.poll(40))
    stage.note(0.039 < time.monotonic() - begun < 1)


@scenario
def select_tells_who_is_ready(stage: Stage) -> None:
    client, server = stage.pair()
    idle, _ = stage.pair()
    client.sendall(b"x")
    stage.until(server)
    ready = select.select([server, idle], [client], [server], 1)
    stage.note([[sock is server or sock is client for sock in each] for each in ready])
    stage.note(select.select([idle], [], [], 0))
    stage.note(select.select([], [], [], 0.01))


@scenario
def select_of_closed_sockets(stage: Stage) -> None:
    sock = stage.open()
    sock.close()
    stage.do(select.select, [sock], [], [], 0)
    stage.do(select.select, [], [], [], -1)


@scenario
def select_after_a_refusal(stage: Stage) -> None:
    port = refused_port()
    client = stage.open()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    readers, writers, others = select.select([client], [client], [client], 5)
    stage.note((len(readers), len(writers), len(others)))


def _selectors() -> list[type[selectors.BaseSelector]]:
    return [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]


@scenario
def selectors_of_all_kinds(stage: Stage) -> None:
    for kind in _selectors():
        client, server = stage.pair()
        with kind() as selector:
            selector.register(server, selectors.EVENT_READ, "data")
            stage.note(selector.select(0))
            client.sendall(b"x")
            stage.note([(key.data, events) for key, events in selector.select(5)])
            selector.modify(server, selectors.EVENT_READ | selectors.EVENT_WRITE)
            stage.note([(key.data, events) for key, events in selector.select(5)])
            selector.unregister(server)
            stage.note(selector.select(0.01))
            stage.do(selector.register, server, 0)


@scenario
def epoll_forgets_what_is_closed(stage: Stage) -> None:
    client, server = stage.pair()
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN)
        stage.do(epoll.register, server, select.EPOLLIN)
        stage.do(epoll.modify, client, select.EPOLLIN)
        stage.do(epoll.unregister, client)
        client.sendall(b"x")
        stage.note([event for _, event in epoll.poll(5)])
        server.close()
        stage.note(epoll.poll(0))
    stage.note(epoll.closed)
    stage.do(epoll.poll, 0)


@scenario
def epoll_can_be_waited_for(stage: Stage) -> None:
    client, server = stage.pair()
    with select.epoll() as inner:
        inner.register(server, select.EPOLLIN)
        stage.events(inner, select.POLLIN)
        client.sendall(b"x")
        stage.until(inner)
        stage.events(inner, select.POLLIN)


@scenario
def epoll_one_shot(stage: Stage) -> None:
    client, server = stage.pair()
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN | select.EPOLLONESHOT)
        client.sendall(b"x")
        stage.note([event for _, event in epoll.poll(5)])
        stage.note(epoll.poll(0.01))
        epoll.modify(server, select.EPOLLIN)
        stage.note([event for _, event in epoll.poll(5)])


@scenario
def epoll_by_edges(stage: Stage) -> None:
    client, server = stage.pair()
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN | select.EPOLLET)
        stage.note(epoll.poll(0))
        client.sendall(b"one")
        stage.note([event for _, event in epoll.poll(5)])
        stage.note(epoll.poll(0.01))
        client.sendall(b"two")
        stage.note([event for _, event in epoll.poll(5)])
        stage.do(server.recv, 100)
        stage.note(epoll.poll(0.01))
        epoll.modify(server, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        stage.note([event for _, event in epoll.poll(5)])
        stage.note(epoll.poll(0.01))


@scenario
def eventfds_and_pipes_wake_pollers(stage: Stage) -> None:
    poller = select.poll()
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    reader, writer = os.pipe()
    poller.register(fd, select.POLLIN)
    poller.register(reader, select.POLLIN)
    stage.note(poller.poll(0))
    stage.later(0.02, os.eventfd_write, fd, 3)
    stage.note([event for _, event in poller.poll(5000)])
    stage.do(os.eventfd_read, fd)
    stage.do(os.eventfd_read, fd)
    os.write(writer, b"wake")
    stage.note([event for _, event in poller.poll(5000)])
    stage.do(os.read, reader, 100)
    os.close(writer)
    stage.do(os.read, reader, 100)
    stage.note([event for _, event in poller.poll(5000)])
    os.close(reader)
    os.close(fd)
    stage.do(os.close, fd)


# -- datagrams


@scenario
def datagrams_there_and_back(stage: Stage) -> None:
    server, client = stage.udp(), stage.udp(bound=False)
    stage.do(client.sendto, b"ping", server.getsockname())
    data, address = server.recvfrom(100)
    stage.note((data, address[0], address[1] == client.getsockname()[1]))
    stage.do(server.sendto, b"pong", address)
    stage.do(client.recv, 100)
    stage.note(client.getsockname()[0])


@scenario
def datagrams_are_cut_to_the_buffer(stage: Stage) -> None:
    server, client = stage.udp(), stage.udp()
    for _ in range(4):
        client.sendto(b"0123456789", server.getsockname())
    stage.do(server.recv, 4)
    stage.note(server.recvmsg(4)[::2])
    stage.note(server.recvmsg(40)[::2])
    buffer = bytearray(3)
    stage.do(server.recv_into, buffer, 0, socket.MSG_TRUNC)


@scenario
def datagrams_may_be_empty(stage: Stage) -> None:
    server, client = stage.udp(), stage.udp()
    stage.do(client.sendto, b"", server.getsockname())
    stage.do(server.recv, 10)
    server.setblocking(False)
    stage.do(server.recv, 10)


@scenario
def datagrams_that_are_too_long(stage: Stage) -> None:
    server, client = stage.udp(), stage.udp()
    stage.do(client.sendto, bytes(65_507), server.getsockname())
    stage.do(client.sendto, bytes(65_508), server.getsockname())


@scenario
def datagrams_to_nobody(stage: Stage) -> None:
    with stage.udp() as gone:
        address = gone.getsockname()
    connected = stage.udp(bound=False)
    connected.connect(address)
    stage.do(connected.send, b"x")
    stage.until(connected, select.POLLERR)
    stage.do(connected.send, b"x")
    stage.do(connected.recv, 1)
    stage.do(stage.udp().sendto, b"x", address)


@scenario
def datagram_sockets_that_are_connected(stage: Stage) -> None:
    server, client, stranger = stage.udp(), stage.udp(), stage.udp()
    client.connect(server.getsockname())
    stage.note(client.getpeername() == server.getsockname())
    stranger.sendto(b"not for you", client.getsockname())
    stage.do(client.send, b"to you")
    stage.do(server.recv, 100)
    server.sendto(b"back", client.getsockname())
    stage.do(client.recv, 100)
    client.setblocking(False)
    stage.do(client.recv, 100)
    stage.do(client.sendall, b"all")


@scenario
def datagrams_without_an_address(stage: Stage) -> None:
    sock = stage.udp()
    stage.do(sock.send, b"x")
    stage.do(sock.getpeername)
    stage.do(sock.shutdown, socket.SHUT_WR)
    stage.do(sock.sendto, b"x")
    stage.do(sock.sendto, b"x", ("127.0.0.1", 0))


@scenario
def datagrams_can_be_peeked_at(stage: Stage) -> None:
    server, client = stage.udp(), stage.udp()
    client.sendto(b"look", server.getsockname())
    stage.do(server.recv, 2, socket.MSG_PEEK)
    stage.do(server.recv, 100)
    stage.events(server)


@scenario
def datagram_sockets_share_no_address(stage: Stage) -> None:
    first, second = stage.udp(), stage.udp(bound=False)
    stage.do(second.bind, first.getsockname())


# -- Unix


@scenario
def unix_streams(stage: Stage) -> None:
    client, server = stage.unix_pair()
    stage.do(client.sendall, b"hello")
    stage.do(server.recv, 100)
    stage.note((client.getsockname(), server.getpeername()))
    stage.note(client.getpeername() == server.getsockname())
    server.close()
    stage.do(client.recv, 1)
    stage.events(client)


@scenario
def unix_paths(stage: Stage) -> None:
    path = stage.path()
    client = stage.open(socket.AF_UNIX)
    stage.do(client.connect, path)
    listener, bound = stage.unix()
    stage.do(stage.open(socket.AF_UNIX).bind, bound)
    stage.note(os.path.exists(bound))
    listener.close()
    stage.note(os.path.exists(bound))
    stage.do(client.connect, bound)
    os.unlink(bound)
    stage.do(client.connect, bound)
    stage.do(client.bind, path + "x" * 200)
    stage.do(client.bind, "/nowhere/at/all")
    with open(path, "w"):
        stage.do(client.connect, path)
        stage.do(client.bind, path)


@scenario
def unix_paths_that_are_bound_but_do_not_listen(stage: Stage) -> None:
    sock = stage.open(socket.AF_UNIX)
    path = stage.path()
    sock.bind(path)
    stage.do(stage.open(socket.AF_UNIX).connect, path)
    stage.do(stage.open(socket.AF_UNIX, socket.SOCK_DGRAM).connect, path)
    stage.do(sock.bind, path + "2")


@scenario
def unix_abstract_names(stage: Stage) -> None:
    name = b"\0servertest-scene-%d" % os.getpid()
    listener = stage.open(socket.AF_UNIX)
    listener.bind(name)
    listener.listen()
    stage.do(stage.open(socket.AF_UNIX).bind, name)
    client = stage.open(socket.AF_UNIX)
    stage.do(client.connect, name)
    stage.note(client.getpeername() == name)
    listener.close()
    stage.do(stage.open(socket.AF_UNIX).connect, name)


@scenario
def unix_names_that_the_system_gives(stage: Stage) -> None:
    sockets = [stage.open(socket.AF_UNIX) for _ in range(2)]
    for sock in sockets:
        stage.do(sock.bind, "")
        name = sock.getsockname()
        stage.note((type(name).__name__, len(name), name[:1]))
    stage.note(sockets[0].getsockname() != sockets[1].getsockname())
    sockets[0].listen()
    stage.do(stage.open(socket.AF_UNIX).connect, sockets[0].getsockname())
    stage.do(stage.open(socket.AF_UNIX).connect, sockets[1].getsockname())
    datagrams = stage.open(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.do(datagrams.bind, "")
    other = stage.open(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.do(other.sendto, b"hi", datagrams.getsockname())
    stage.do(datagrams.recv, 10)


@scenario
def buffers_that_are_made_small_later(stage: Stage) -> None:
    client, server = stage.pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server.settimeout(0.1)
    stage.do(server.sendall, b"x" * 20_000_000)


@scenario
def unix_write_after_the_peer_has_closed(stage: Stage) -> None:
    client, server = stage.unix_pair()
    server.close()
    stage.do(client.send, b"x")
    stage.do(client.recv, 1)


@scenario
def unix_close_with_unread_data(stage: Stage) -> None:
    client, server = stage.unix_pair()
    client.sendall(b"unread")
    server.sendall(b"last words")
    server.close()
    stage.do(client.recv, 100)
    stage.do(client.recv, 100)
    stage.do(client.recv, 100)


@scenario
def unix_shutdown(stage: Stage) -> None:
    client, server = stage.unix_pair()
    client.shutdown(socket.SHUT_WR)
    stage.do(server.recv, 1)
    stage.do(client.send, b"x")
    stage.events(server)
    server.shutdown(socket.SHUT_RD)
    stage.do(server.send, b"ok")
    stage.do(client.recv, 10)
    client.shutdown(socket.SHUT_RD)
    stage.do(server.send, b"no")
    stage.do(stage.open(socket.AF_UNIX).shutdown, socket.SHUT_RDWR)


@scenario
def unix_sockets_that_were_never_connected(stage: Stage) -> None:
    sock = stage.open(socket.AF_UNIX)
    stage.do(sock.recv, 1)
    stage.do(sock.send, b"x")
    stage.do(sock.getpeername)
    stage.do(sock.getsockname)
    stage.do(sock.listen)
    stage.events(sock)


@scenario
def unix_listener_without_room(stage: Stage) -> None:
    listener = stage.open(socket.AF_UNIX)
    path = stage.path()
    listener.bind(path)
    listener.listen(0)
    first, second = stage.open(socket.AF_UNIX), stage.open(socket.AF_UNIX)
    for sock in (first, second):
        sock.setblocking(False)
    stage.do(first.connect, path)
    stage.do(second.connect, path)
    stage.do(second.connect_ex, path)


@scenario
def unix_pairs(stage: Stage) -> None:
    first, second = socket.socketpair()
    stage.keep(first), stage.keep(second)
    stage.note((first.family.name, first.type.name))
    stage.do(first.sendall, b"x")
    stage.do(second.recv, 10)
    stage.note((first.getsockname(), first.getpeername()))
    first.close()
    stage.do(second.recv, 10)
    stage.do(second.send, b"x")


@scenario
def unix_datagrams(stage: Stage) -> None:
    server, path = stage.unix(socket.SOCK_DGRAM)
    client = stage.open(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.do(client.sendto, b"anonymous", path)
    stage.do(server.recvfrom, 100)
    name = stage.path()
    client.bind(name)
    stage.do(client.sendto, b"named", path)
    data, address = server.recvfrom(100)
    stage.note((data, address == name))
    stage.do(server.sendto, b"back", address)
    stage.do(client.recv, 2)
    server.setblocking(False)
    stage.do(server.recv, 1)


@scenario
def unix_datagrams_to_nobody(stage: Stage) -> None:
    client = stage.open(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.do(client.sendto, b"x", stage.path())
    server, path = stage.unix(socket.SOCK_DGRAM)
    client.connect(path)
    stage.do(client.send, b"x")
    server.close()
    stage.do(client.send, b"x")
    stage.do(client.sendto, b"x", path)
    stage.do(stage.open(socket.AF_UNIX, socket.SOCK_DGRAM).send, b"x")
    stage.do(client.sendto, b"x", stage.unix()[1])


@scenario
def unix_datagrams_wait_for_their_reader(stage: Stage) -> None:
    server, path = stage.unix(socket.SOCK_DGRAM)
    client = stage.open(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < 10_000:
            client.sendto(b"x", path)
            sent += 1
    client.settimeout(0.03)
    stage.do(client.sendto, b"x", path)
    server.recv(1)
    client.settimeout(5)
    stage.do(client.sendto, b"x", path)


@scenario
def unix_datagram_pairs(stage: Stage) -> None:
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stage.keep(first), stage.keep(second)
    stage.do(first.send, b"one")
    stage.do(first.send, b"two")
    stage.do(second.recv, 100)
    stage.do(second.recv, 1)
    second.close()
    stage.do(first.send, b"x")


# -- names


@scenario
def names_of_this_machine(stage: Stage) -> None:
    found = socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    stage.note([(family.name, kind.name, address) for family, kind, _, _, address in found])
    stage.note(socket.gethostbyname("localhost"))
    stage.note(socket.getaddrinfo("::1", 80, type=socket.SOCK_DGRAM)[0][4])


@scenario
def ipv6_loopback(stage: Stage) -> None:
    listener = stage.open(socket.AF_INET6)
    listener.bind(("::1", 0))
    listener.listen()
    client = stage.keep(socket.create_connection(listener.getsockname()[:2], timeout=5))
    server, address = listener.accept()
    stage.keep(server)
    stage.note((address[0], address[2:], client.getpeername()[0], len(client.getsockname())))
    stage.do(client.send, b"x")
    stage.do(server.recv, 1)


@scenario
def both_families_on_one_listener(stage: Stage) -> None:
    listener = stage.open(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", 0))
    listener.listen()
    port = listener.getsockname()[1]
    client = stage.keep(socket.create_connection(("127.0.0.1", port), timeout=5))
    server, address = listener.accept()
    stage.keep(server)
    stage.note((address[0], client.getpeername()[0], server.getsockname()[0]))


@scenario
def calls_that_go_past_a_subclass(stage: Stage) -> None:
    class Own(socket.socket):
        def recv(self, *args: Any) -> bytes:
            return b"not this"

    client, server = stage.pair()
    own = stage.keep(Own(fileno=server.detach()))
    client.sendall(b"this")
    stage.do(socket.socket.recv, own, 100)
    stage.do(own.recv, 100)
    stage.do(socket.socket.send, own, b"and that")
    stage.do(client.recv, 100)


@scenario
def subclasses_of_sockets(stage: Stage) -> None:
    class Loud(socket.socket):
        def send(self, data: Any, *flags: Any) -> int:
            return super().send(bytes(data).upper(), *flags)

    listener = stage.listener()
    client = stage.keep(Loud())
    client.connect(listener.getsockname())
    client.send(b"quiet")
    server = stage.keep(listener.accept()[0])
    stage.do(server.recv, 100)
    stage.note((isinstance(client, Loud), isinstance(client, socket.socket), type(client).__name__))


def run(name: str) -> Iterator[Any]:
    with Stage() as stage:
        SCENARIOS[name](stage)
        yield from stage.outcomes

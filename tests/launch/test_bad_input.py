"""Bad input gets one clear error, at once, that says what to do."""

from __future__ import annotations

import asyncio
import re
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest._support import AddressError, AddressInUse, UsageError, have_ipv6
from servertest.launch import (
    AsyncioTarget,
    CommandTarget,
    FactoryTarget,
    FunctionTarget,
    HandlerTarget,
    Kind,
    Unavailable,
    UnknownKind,
    WsgiTarget,
    launch,
)
from tests._descriptors import new_descriptors, open_descriptors
from tests._threads import new_threads

from ._handlers import DatagramUpper, Upper


async def callback(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


class NoHandler:
    pass


def two(one: object, another: object) -> None:
    pass


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    before, threads = open_descriptors(), threading.enumerate()
    yield
    assert not new_descriptors(before)
    assert not new_threads(threads)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (5, "5 cannot be served"),
        ("module:Handler", "'module:Handler' cannot be served"),
        (None, "request handler class"),
        (NoHandler, "NoHandler is no request handler"),
        (NoHandler(), "cannot be served"),
        (two, r"two\(\) takes 2 arguments.*WsgiTarget"),
        (lambda: None, r"takes 0 arguments.*FactoryTarget"),
    ],
)
def test_what_cannot_be_served(thing: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch(thing)


@pytest.mark.parametrize(
    ("handler", "kind", "words"),
    [
        (DatagramUpper, "ThreadingTCPServer", "DatagramUpper is a datagram handler.*take ThreadingUDPServer"),
        (DatagramUpper, "UnixStreamServer+tls", "take UnixDatagramServer"),
        (Upper, "ForkingUnixDatagramServer", "Upper is a stream handler.*take ForkingUnixStreamServer"),
        (callback, "UDPServer", "callback is for streams"),
        (WsgiTarget(two), "UDPServer", "HTTP needs a stream"),
        (AsyncioTarget(callback), "TCPServer+tls:handshake-reset", "asyncio keeps its sockets away"),
    ],
)
def test_a_kind_that_a_target_does_not_go_with(handler: Any, kind: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch(handler, kind)


def test_an_unknown_kind() -> None:
    with pytest.raises(UnknownKind, match="did you mean ThreadingTCPServer"):
        launch(Upper, "ThreadedTCPServer")


def test_an_unknown_tls_profile() -> None:
    with pytest.raises(UsageError, match="expired"):
        launch(Upper, tls="expird")


def test_a_forking_kind_in_a_thread() -> None:
    with pytest.raises(UsageError, match="cannot run in a thread"):
        launch(Upper, "ForkingTCPServer", host="thread")


def test_a_kind_that_this_machine_cannot_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.launch._kinds.have_ipv6", lambda: False)
    with pytest.raises(Unavailable, match="no IPv6"):
        launch(Upper, address="::1")


def test_a_path_that_is_too_long() -> None:
    with pytest.raises(AddressError, match=r"has \d+ bytes; the limit here is 10\d"):
        launch(Upper, address="/tmp/" + "x" * 120)


@pytest.mark.parametrize("address", [5, ("127.0.0.1",), ("127.0.0.1", "http"), b""])
def test_what_is_no_address(address: Any) -> None:
    with pytest.raises((UsageError, TypeError)):
        launch(Upper, address=address)


def test_an_address_that_is_not_ours() -> None:
    with pytest.raises(AddressError, match="is no address of this machine"):
        launch(Upper, address=("192.0.2.1", 0))


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"adress": "::1"}, "knows no adress=; did you mean address="),
        ({"colour": "red"}, "knows no colour=; there is kind=, host="),
    ],
)
def test_an_unknown_argument(keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        launch(Upper, **keywords)


@pytest.mark.parametrize("kind", ["ThreadPoolTCPServer", servers.ThreadPoolTCPServer])
def test_an_argument_that_is_an_attribute_of_the_server(kind: Any) -> None:
    words = "launch() knows no pool_size=; it is an attribute of ThreadPoolTCPServer: say attributes={'pool_size': 3}"
    with pytest.raises(UsageError, match=f"^{re.escape(words)}$"):
        launch(Upper, kind, pool_size=3)
    with launch(Upper, kind, attributes={"pool_size": 3}) as running:
        assert running.server is not None
        assert running.server.pool_size == 3
    with pytest.raises(UsageError, match="knows no pool_size=; there is kind="):
        launch(Upper, pool_size=3)


def test_an_unknown_argument_elsewhere() -> None:
    with launch(Upper) as running:
        with pytest.raises(UsageError, match=r"connect\(\) knows no tiemout=; did you mean timeout="):
            running.connect(tiemout=3)
        assert running.transcript is not None
        wait_for: Any = running.transcript.wait_for
        with pytest.raises(TypeError, match=r"wait_for\(\) knows no conections=; did you mean connections="):
            wait_for(conections=3)


@pytest.mark.parametrize("thing", [None, 5, "module:application"])
@pytest.mark.parametrize("target", [WsgiTarget, AsyncioTarget, FactoryTarget, FunctionTarget])
def test_what_cannot_be_called(target: Any, thing: Any) -> None:
    with pytest.raises(UsageError, match=r"is not a|is nothing for asyncio"):
        launch(target(thing))


@pytest.mark.parametrize("count", [1, 3])
def test_a_callback_for_asyncio_with_other_parameters(count: int) -> None:
    callbacks: list[Any] = [None, lambda reader: None, None, lambda reader, writer, other: None]
    with pytest.raises(UsageError, match=r"client_connected\(reader, writer\)"):
        launch(AsyncioTarget(callbacks[count]))


@pytest.mark.parametrize("address", ["/no such directory/s", ("127.0.0.1", 70000), ("127.0.0.1", 80, 5), ""])
@pytest.mark.parametrize("target", [Upper, FactoryTarget(lambda address: None)])
def test_addresses_that_nobody_can_be_bound_to(target: Any, address: Any) -> None:
    with pytest.raises(AddressError):
        launch(target, address=address)


@pytest.mark.skipif(
    sys.platform != "linux" or not have_ipv6(),
    reason="no IPv6, or a system that looks for the interface itself",
)
def test_an_address_of_an_interface_that_is_not_said() -> None:
    with pytest.raises(AddressError, match=r"\[fe80::1\]:0 cannot be bound: .* the number of its interface"):
        launch(Upper, address=("fe80::1", 0))


def test_who_holds_an_address_is_named() -> None:
    with launch(Upper) as running:
        with pytest.raises(AddressInUse, match="held by this process: TCP socket listening on"):
            launch(Upper, address=running.address)


def test_another_process_that_holds_an_address_is_named() -> None:
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with pytest.raises(AddressInUse, match=f"held by process {process.pid}: .*create_server"):
            launch(socketserver.TCPServer, Upper, address=("127.0.0.1", port))
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.parametrize(
    ("kind", "place"),
    [("TCPServer", "{port}"), ("UDPServer", "{port}"), ("UnixStreamServer", "{path}")],
)
def test_whoever_serves_already_does_not_pass_for_the_program(kind: str, place: str) -> None:
    handler = DatagramUpper if kind == "UDPServer" else Upper
    served: Any = "datagram" if kind == "UDPServer" else "stream"
    with launch(handler, kind) as running:
        idle = [sys.executable, "-c", "import time; time.sleep(60)", place]
        with pytest.raises(AddressInUse, match="held by this process"):
            launch(CommandTarget(idle, served=served), kind, address=running.address)


@pytest.mark.parametrize(
    ("left", "words"), [(True, "no process holds it"), (False, "what is there is no socket")]
)
def test_a_path_that_nobody_holds(tmp_path: Path, left: bool, words: str) -> None:
    path = tmp_path / "s"
    if left:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path.touch()
    with pytest.raises(AddressInUse, match=words):
        launch(Upper, address=path)


def test_a_handler_takes_no_further_arguments() -> None:
    with pytest.raises(UsageError, match="Upper takes no further arguments"):
        launch(Upper, "TCPServer", 5)


def test_attributes_are_for_handlers() -> None:
    with pytest.raises(UsageError, match="attributes= is for handlers"):
        launch(callback, attributes={"x": 1})


@pytest.mark.parametrize(
    ("arguments", "keywords"), [((), {}), ((Upper,), {"colour": "red"}), ((Upper, 1, 2, 3), {})]
)
def test_arguments_that_a_server_class_does_not_take(
    arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="TCPServer cannot be made with"):
        launch(socketserver.TCPServer, *arguments, **keywords)


def test_a_server_object_elsewhere() -> None:
    server = servers.TCPServer(("127.0.0.1", 0), Upper)
    try:
        with pytest.raises(UsageError, match="cannot leave this process"):
            launch(server, host="process")
    finally:
        server.server_close()


@pytest.mark.parametrize("module", [socketserver, servers])
def test_a_server_object_that_serves_already(module: Any) -> None:
    server = module.ThreadingTCPServer(("127.0.0.1", 0), Upper)
    with launch(server), pytest.raises(UsageError, match="serves already"):
        launch(server)


def test_a_server_object_that_somebody_else_serves() -> None:
    with servers.TCPServer(("127.0.0.1", 0), Upper) as server:
        loop = threading.Thread(target=server.serve_forever)
        loop.start()
        try:
            with socket.create_connection(server.server_address, 5) as client:
                client.sendall(b"hi\n")
                assert client.recv(3) == b"HI\n"
            with pytest.raises(UsageError, match="serves already"):
                launch(server)
        finally:
            server.shutdown()
            loop.join()


def test_a_server_object_that_is_closed() -> None:
    server = servers.TCPServer(("127.0.0.1", 0), Upper)
    server.server_close()
    with pytest.raises(UsageError, match="closed already"):
        launch(server)


@pytest.mark.parametrize("result", [None, 5, NoHandler()])
def test_a_factory_that_makes_no_server(result: Any) -> None:
    def make(address: object) -> Any:
        return result

    with pytest.raises(UsageError, match=r"make returned .*start\(\) and stop\(\)"):
        launch(FactoryTarget(make))


@pytest.mark.parametrize("parameters", ["", "a, b", "*, address"])
def test_a_factory_that_does_not_take_an_address(parameters: str) -> None:
    factory = eval(f"lambda {parameters}: None")
    with pytest.raises(
        UsageError, match=r"cannot be a factory .*: that is called with one argument, the address"
    ):
        launch(FactoryTarget(factory))


def test_a_factory_that_fails() -> None:
    def make(address: object) -> Any:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        launch(FactoryTarget(make))


def test_an_object_that_does_not_say_where_it_listens_is_stopped_again() -> None:
    calls = []

    class Secretive:
        def start(self) -> None:
            calls.append("start")

        def stop(self) -> None:
            calls.append("stop")

    with pytest.raises(UsageError, match=r"does not say where it listens.*held_port=True"):
        launch(FactoryTarget(lambda address: Secretive()))
    assert calls == ["start", "stop"]


def test_a_handler_is_checked_again_where_it_is_built() -> None:
    with pytest.raises(UsageError):
        HandlerTarget(Upper).check(Kind("datagram"))


@pytest.mark.parametrize(
    ("kind", "address"),
    [("UnixStreamServer", "::1"), ("TCPServer", "unix"), ("TCPServer+ipv6", "127.0.0.1")],
)
def test_a_kind_and_an_address_that_contradict_each_other(kind: str, address: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be at .*: change one of the two"):
        launch(Upper, kind, address=address)


def test_a_word_that_may_be_a_host_or_a_file() -> None:
    with pytest.raises(UsageError, match="may be a host or a file"):
        launch(Upper, address="0.0.0.0")


def test_a_path_object_is_a_path(tmp_path: Any) -> None:
    with launch(Upper, address=tmp_path / "s") as running:
        assert running.path == str(tmp_path / "s")


@pytest.mark.parametrize("timeout", [-1, 0, "3", float("inf")])
def test_a_timeout_is_a_number_above_zero(timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout is a number of seconds above 0"):
        launch(Upper, timeout=timeout)

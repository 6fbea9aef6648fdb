"""A server in a process of its own behaves like one in a thread, and nothing of it is lost or left."""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from servertest import servers
from servertest._support import AddressInUse, Deadline, RemoteError, SocketDirectory, UsageError, bound_socket
from servertest.clients import StreamClient, connect
from servertest.launch import _process_stacks
from servertest.launch._host import Plan
from servertest.launch._kinds import Kind
from servertest.launch._process import ProcessHost
from servertest.launch._targets import AsyncioTarget, FunctionTarget, HandlerTarget, WsgiTarget
from servertest.launch._zygote import shutdown_zygote
from tests._descriptors import new_descriptors, open_descriptors
from tests._threads import new_threads

from ._process_helpers import SOON, Ear, Launched, Stop, launch, running, wait_for_end, wait_for_output

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

SUFFIX = b"!"


class Upper(servers.StreamRequestHandler):
    """Answers each line, and raises when told to."""

    def handle(self) -> None:
        for line in self.rfile:
            if line.startswith(b"raise "):
                raise ValueError(line[6:].decode().strip())
            self.wfile.write(line.upper())


class UpperDatagram(servers.DatagramRequestHandler):
    def handle(self) -> None:
        self.wfile.write(self.rfile.read().upper())


class EvalHandler(servers.StreamRequestHandler):
    """Answers a line of Python with its value."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(repr(eval(line)).encode() + b"\n")


class OurOwnError(Exception):
    """An exception of a test module."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code


def stop_and_read(server: Launched) -> str:
    """Stop it, and return what it has printed."""
    process = server.host._process
    assert server.stop() == []
    assert process is not None
    return process.output.text()


def ask(client: StreamClient, line: bytes) -> bytes:
    client.send_all(line + b"\n")
    return client.readline().rstrip(b"\n")


# -- serving


@pytest.mark.parametrize(
    "kind", ["ForkingTCPServer", "PreForkTCPServer", "ThreadingTCPServer+process", "TCPServer+process"]
)
def test_a_stream_server_serves(kind: str) -> None:
    with running(Upper, kind) as server:
        with server.connect() as client:
            assert ask(client, b"hi") == b"HI"
        assert server.pid != os.getpid()


@pytest.mark.parametrize("kind", ["ForkingUDPServer", "UDPServer+process"])
def test_a_datagram_server_serves(kind: str) -> None:
    with running(UpperDatagram, kind) as server, connect(server.host.address, transport="datagram") as client:
        client.send(b"hi")
        assert client.receive() == b"HI"
        server.ear.transcript.wait_for(downstream=b"HI")  # type: ignore[union-attr]


def test_a_unix_server_serves() -> None:
    with SocketDirectory() as directory:
        listener = bound_socket("stream", "unix", directory=directory)
        with (
            running(Upper, "ForkingUnixStreamServer", listener=listener) as server,
            server.connect() as client,
        ):
            assert ask(client, b"hi") == b"HI"


def test_a_handler_may_be_defined_in_a_test_and_use_what_is_around_it() -> None:
    prefix = b"<"

    class Local(Upper):
        def handle(self) -> None:
            self.wfile.write(prefix + self.rfile.readline().strip() + SUFFIX + b"\n")

    with running(Local) as server, server.connect() as client:
        assert ask(client, b"hi") == b"<hi!"


def test_a_handler_may_come_from_a_module_that_no_import_finds(tmp_path: Path) -> None:
    source = "import socketserver\nclass H(socketserver.StreamRequestHandler):\n    def handle(self): self.wfile.write(b'me')\n"
    (tmp_path / "h.py").write_text(source)
    spec = importlib.util.spec_from_file_location("nobody_finds_this", tmp_path / "h.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["nobody_finds_this"] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        with running(module.H) as server, server.connect() as client:
            assert client.read_eof() == b"me"
    finally:
        del sys.modules["nobody_finds_this"]


def test_an_asyncio_callback_serves() -> None:
    async def upper(reader: Any, writer: Any) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()

    with running(AsyncioTarget(upper), "ThreadingTCPServer+process") as server, server.connect() as client:
        assert ask(client, b"hi") == b"HI"


def test_a_wsgi_application_serves() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with running(WsgiTarget(application), "ThreadingTCPServer+process") as server, server.connect() as client:
        client.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert client.read_eof().endswith(b"\r\n\r\nok")


def test_a_function_that_gets_the_socket_serves() -> None:
    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())

    with running(FunctionTarget(serve), "TCPServer+process") as server, server.connect() as client:
        assert ask(client, b"hi") == b"HI"


def test_the_server_serves_in_the_main_thread_and_has_no_other() -> None:
    with running(EvalHandler, "TCPServer+process") as server, server.connect() as client:
        expression = b"[t.name for t in __import__('threading').enumerate()]"
        assert ask(client, expression) == b"['MainThread']"
        assert (
            ask(
                client,
                b"__import__('os').getsid(0) == __import__('os').getpid() == " + str(server.pid).encode(),
            )
            == b"True"
        )


# -- forks


def test_forking_warns_of_nothing_though_the_test_has_threads() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        server = launch(Upper)
        assert threading.active_count() > 1
        with server.connect() as client:
            assert ask(client, b"hi") == b"HI"
        assert stop_and_read(server) == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python does not warn")
def test_a_warning_about_a_fork_would_have_been_seen() -> None:
    def fork_with_a_thread(plan: Plan, stopped: Stop) -> None:
        threading.Thread(target=stopped.wait, daemon=True).start()
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        print("forked")
        stopped.wait()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        server = launch(fork_with_a_thread)
        wait_for_output(server, b"forked")
        assert "DeprecationWarning: This process" in stop_and_read(server)


def test_a_forked_child_sees_the_client_close() -> None:
    """In a fork of the test's process, it would hold the client's own end open, and wait for ever."""
    with running(Upper) as server:
        client = server.connect()
        assert ask(client, b"hi") == b"HI"
        client.close()
        assert server.ear.transcript is not None
        server.ear.transcript.wait_for(closed=1, timeout=SOON)

        assert server.ear.transcript.connections[0].closed_by == "client"


def test_the_server_process_inherits_nothing_of_the_test() -> None:
    with (
        bound_socket("stream", "inet") as mine,
        running(EvalHandler, "TCPServer+process") as server,
        server.connect() as client,
    ):
        os.set_inheritable(mine.fileno(), True)
        links = ask(
            client,
            b"[__import__('os').readlink(e.path) for e in __import__('os').scandir('/proc/self/fd')][:-1]",
        )

        assert os.readlink(f"/proc/self/fd/{mine.fileno()}").encode() not in links
        # Nor anything of the zygote's: null, output twice, channel, stacks, listener, connection, and the server's waker.
        assert len(eval(links)) <= 8


# -- surroundings


def test_surroundings_are_those_at_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(EvalHandler, "TCPServer+process"):
        pass  # the zygote runs by now, and its surroundings are those of some moment before
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVERTEST_NEW", "1")
    monkeypatch.delenv("PATH")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["program", "argument"])
    with running(EvalHandler, "TCPServer+process") as server, server.connect() as client:
        assert eval(ask(client, b"__import__('os').getcwd()")) == str(tmp_path)
        assert eval(ask(client, b"__import__('os').environ.get('SERVERTEST_NEW')")) == "1"
        assert eval(ask(client, b"__import__('os').environ.get('PATH')")) is None
        assert eval(ask(client, b"__import__('sys').path[0]")) == str(tmp_path)
        assert eval(ask(client, b"__import__('sys').argv")) == ["program", "argument"]


def test_a_module_written_a_moment_ago_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the zygote has looked into the directory, and its time stamp does not tell that there is something new."""
    monkeypatch.syspath_prepend(str(tmp_path))
    shutdown_zygote()
    with running(EvalHandler, "TCPServer+process"):
        pass
    before = tmp_path.stat()
    (tmp_path / "servertest_new_module.py").write_text("VALUE = 42\n")
    os.utime(tmp_path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with running(EvalHandler, "TCPServer+process") as server, server.connect() as client:
        assert ask(client, b"__import__('servertest_new_module').VALUE") == b"42"


def test_warnings_filters_are_those_at_the_launch() -> None:
    class Warns(servers.StreamRequestHandler):
        def handle(self) -> None:
            warnings.warn("seen", UserWarning, stacklevel=1)
            self.wfile.write(b"went on")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with running(Warns) as server, server.connect() as client:
            assert client.read_eof() == b"went on"


def test_a_filter_for_a_category_that_is_not_there_costs_nothing() -> None:
    class OurOwnWarning(UserWarning):
        pass

    class Foreign(UserWarning):
        __module__ = "some_library_that_the_server_does_not_use"

    class Warns(servers.StreamRequestHandler):
        def handle(self) -> None:
            warnings.warn("seen", OurOwnWarning, stacklevel=1)
            self.wfile.write(b"went on")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Foreign)
        warnings.simplefilter("ignore", OurOwnWarning)
        with running(Warns) as server, server.connect() as client:
            assert client.read_eof() == b"went on"


def test_a_stand_in_for_socketserver_stands_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socketserver", servers)
    with running(EvalHandler, "TCPServer+process") as server, server.connect() as client:
        assert ask(client, b"__import__('socketserver').__name__") == b"'servertest.servers'"


def test_signals_are_those_of_a_new_interpreter() -> None:
    with running(EvalHandler, "TCPServer+process") as server, server.connect() as client:
        assert (
            ask(client, b"__import__('signal').getsignal(2) is __import__('signal').default_int_handler")
            == b"True"
        )
        assert ask(client, b"__import__('signal').getsignal(17).name") == b"'SIG_DFL'"
        assert ask(client, b"__import__('signal').pthread_sigmask(0, ())") == b"set()"


# -- errors


@pytest.mark.parametrize(
    "kind", ["ForkingTCPServer", "PreForkTCPServer", "ThreadingTCPServer+process", "TCPServer+process"]
)
def test_an_error_of_a_handler_comes_home(kind: str) -> None:
    server = launch(Upper, kind)
    with server.connect() as client:
        assert ask(client, b"hi") == b"HI"
    with server.connect() as client:
        client.send_all(b"raise my hopes\n")
        assert client.read_eof() == b""
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert type(error.exception) is ValueError
    assert error.message == "my hopes"
    assert "raise ValueError(line[6:]" in error.traceback_text
    assert error.connection == 2
    assert list(server.ear.errors) == []


def test_an_error_sent_at_the_last_moment_is_not_lost() -> None:
    class RaisesAtTheEnd(servers.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"x")
            self.rfile.read()
            raise OurOwnError(7, "x" * 200_000)

    server = launch(RaisesAtTheEnd)
    clients = [server.connect() for _ in range(5)]
    for client in clients:
        client.read_exactly(1)
        client.close()
    assert server.stop() == []

    assert [type(error.exception) for error in server.ear.errors] == [OurOwnError] * 5


def test_errors_come_home_as_datagrams_where_there_are_no_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SOCK_SEQPACKET", -1)
    server = launch(Upper)
    with server.connect() as client:
        client.send_all(b"raise x\n")
        assert client.read_eof() == b""
    began = time.monotonic()
    assert server.stop() == []

    assert [error.message for error in server.ear.errors] == ["x"]
    assert time.monotonic() - began < 1  # nobody waits for an end that is not told


def test_an_exception_of_the_tests_own_class_is_of_that_class() -> None:
    class LocalError(OurOwnError):
        pass

    class Raises(servers.StreamRequestHandler):
        def handle(self) -> None:
            raise LocalError(7, "broken")

    server = launch(Raises)
    with server.connect() as client:
        client.read_eof()
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert isinstance(error.exception, LocalError)
    assert error.exception.code == 7
    assert str(error.exception) == "broken (7)"


def test_an_exception_that_cannot_travel_is_told_as_text() -> None:
    class Holding(Exception):
        pass

    class Raises(servers.StreamRequestHandler):
        def handle(self) -> None:
            error = Holding("has a lock")
            error.lock = threading.Lock()  # type: ignore[attr-defined]
            raise error

    server = launch(Raises)
    with server.connect() as client:
        client.read_eof()
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert isinstance(error.exception, RemoteError)
    assert error.type_name.endswith("Holding")
    assert "has a lock" in error.exception.traceback_text


def test_an_error_of_the_serving_loop_is_told_once() -> None:
    def fail(plan: Plan, stopped: Stop) -> None:
        raise OurOwnError(1, "the loop is broken")

    server = launch(fail)
    error = server.ear.errors.pop(timeout=SOON)
    assert server.stop() == []

    assert isinstance(error.exception, OurOwnError)
    assert error.where == "serving loop"
    assert list(server.ear.errors) == []


def test_a_target_that_cannot_be_built_says_so_in_the_caller() -> None:
    @dataclasses.dataclass
    class Broken:
        name = "Broken"

        def build(self, plan: Plan) -> Any:
            raise OurOwnError(3, "cannot be built")

    with pytest.raises(OurOwnError, match="cannot be built") as caught:
        launch(Broken())

    assert "in build" in "".join(caught.value.__notes__)


def test_an_address_in_use_is_told_in_the_caller() -> None:
    @dataclasses.dataclass
    class Binds:
        name = "Binds"

        def build(self, plan: Plan) -> Any:
            raise AddressInUse("somebody else is there")

    with pytest.raises(AddressInUse, match="somebody else"):
        launch(Binds())


def test_what_cannot_travel_is_an_error_before_anything_starts() -> None:
    lock = threading.Lock()

    class Locks(servers.StreamRequestHandler):
        def handle(self) -> None:
            lock.acquire()

    with pytest.raises(UsageError, match="variable 'lock' of"):
        launch(Locks)


def test_a_module_that_is_only_importable_here_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "soon_gone.py").write_text(
        "import threading\nLOCK = threading.Lock()\ndef handle(*_): LOCK\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import soon_gone  # type: ignore[import-not-found]

    (tmp_path / "soon_gone.py").write_text("raise RuntimeError('changed')\n")
    importlib.invalidate_caches()

    with pytest.raises(
        UsageError, match=r"handle could not be made again in a server process: changed.*host=\"thread\""
    ):
        launch(HandlerTarget(soon_gone.handle))


@pytest.mark.parametrize("host", ["process", "thread"])
def test_a_module_that_launches_when_it_is_imported_is_a_clear_error(tmp_path: Path, host: str) -> None:
    (tmp_path / "eager.py").write_text(
        "import servertest\nfrom servertest import servers\n\n"
        "class Handler(servers.StreamRequestHandler):\n    pass\n\n"
        f"running = servertest.launch(Handler, host={host!r})\n"
        "servertest.launch(Handler, host='process')\n"
    )
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", "import eager"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - began < 15
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "UsageError: a module that launches a server when it is imported" in last
    assert "eager.py, line 7" in last
    assert 'if __name__ == "__main__"' in last


# -- transcript and output


def test_the_transcript_is_as_complete_as_in_a_thread() -> None:
    payload = bytes(range(256)) * 1000 + b"\n"
    with running(Upper) as server:
        assert server.ear.transcript is not None
        for _ in range(3):
            with server.connect() as client:
                client.send_all(payload.replace(b"\n", b"") + b"\n")
                client.half_close()
                reply = client.read_eof()
        server.ear.transcript.wait_for(closed=3, timeout=SOON)

        assert [one.number for one in server.ear.transcript.connections] == [1, 2, 3]
        assert server.ear.transcript.connections[2].downstream == reply
        assert server.ear.transcript.connections[2].client == client.local_address
        assert 0 < server.ear.transcript.connections[0].opened < 60


def test_what_was_recorded_before_a_reply_can_be_had_at_once() -> None:
    with running(Upper) as server:
        assert server.ear.transcript is not None
        for number in range(1, 11):
            with server.connect() as client:
                client.send_all(b"x" * 100_000 + b"\n")
                client.readline(max_bytes=200_000)
                server.host.catch_up()

                assert server.ear.transcript.connections[number - 1].upstream_total == 100_001
    server.host.catch_up()  # harmless when there is nothing any more


def test_pre_forked_workers_number_their_connections_together() -> None:
    with running(Upper, "PreForkTCPServer") as server:
        assert server.ear.transcript is not None
        for number in range(6):
            with server.connect() as client:
                assert ask(client, b"%d" % number) == b"%d" % number
        server.ear.transcript.wait_for(closed=6, timeout=SOON)

        assert sorted(one.upstream for one in server.ear.transcript.connections) == [
            b"%d\n" % n for n in range(6)
        ]
        assert {one.number for one in server.ear.transcript.connections} == set(range(1, 7))


def test_nothing_is_recorded_when_nothing_is_to_be_recorded() -> None:
    server = launch(Upper, recording=False)
    with server.connect() as client:
        assert ask(client, b"hi") == b"HI"
        client.send_all(b"raise x\n")
        client.read_eof()
    assert server.ear.errors.pop(timeout=SOON).connection == 0
    assert server.stop() == []


def test_output_of_the_process_and_its_children_is_kept() -> None:
    class Prints(servers.StreamRequestHandler):
        def handle(self) -> None:
            print("printed", end="")
            sys.stderr.write("written\n")
            os.write(1, b"and more\n")

    server = launch(Prints)
    with server.connect() as client:
        client.read_eof()

    printed = stop_and_read(server).replace("printed", "printed\n").split()
    assert sorted(printed) == ["and", "more", "printed", "written"]


def test_a_dump_shows_stacks_of_the_server_and_of_its_children_and_the_output() -> None:
    class Waits(servers.StreamRequestHandler):
        def handle(self) -> None:
            print("waiting")
            self.wait_for_the_client()

        def wait_for_the_client(self) -> None:
            self.wfile.write(b"x")
            self.rfile.read()

    with running(Waits) as server:
        with server.connect() as client:
            client.read_exactly(1)
            dumps = [server.host.dump() for _ in range(3)]

    for dump in dumps:
        assert dump.startswith("process ")
        assert dump.count("forked by it:") == 1
        assert dump.count("in wait_for_the_client") == 1
        assert dump.count("calls in servertest.launch, servertest.servers") == 2
        assert "_zygote_main" not in dump
        assert "its output:\nwaiting" in dump


def test_the_end_of_the_stacks_is_known_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process_stacks, "ANSWERS", (30.0,))

    def serve(plan: Plan, stopped: Stop) -> None:
        print("serving")
        stopped.wait()

    with running(serve) as server:
        wait_for_output(server, b"serving")
        began = time.monotonic()
        assert "in serve" in server.host.dump()
        assert time.monotonic() - began < 20


def test_asking_for_stacks_does_no_harm_while_threads_run() -> None:
    """Whoever looks at the frames of a thread that runs may follow one that is being given back (SIGSEGV on 3.12)."""

    def deep(level: int) -> int:
        return deep(level - 1) if level else 0

    def busy(plan: Plan, stopped: Stop) -> None:
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                [deep(number % 30) for number in range(50)]

        threads = [threading.Thread(target=work, name="busy one") for _ in range(3)]
        for thread in threads:
            thread.start()
        print("busy")
        stopped.wait()
        over.set()
        for thread in threads:
            thread.join()

    with running(busy) as server:
        wait_for_output(server, b"busy")
        dumps = [server.host.dump() for _ in range(100)]
        assert server.host.alive

    # On a busy machine it may take the main thread long to answer, and all that is seen then is itself.
    assert all("in busy" in dump for dump in dumps)
    assert any(dump.count("thread busy one:") == 3 for dump in dumps)


def test_a_main_thread_that_does_not_run_python_shows_its_stack_too() -> None:
    def counts(plan: Plan, stopped: Stop) -> None:
        # All in C, from before the word is out.
        sum(itertools.chain(map(os.write, [1], [b"counting\n"]), itertools.repeat(0)))

    server = launch(counts)
    wait_for_output(server, b"counting")
    dump = server.host.dump()
    assert "in counts" in dump
    assert "(the main thread, which has not come to run Python for 1 s)" in dump
    server.host.kill()
    server.stop()


def test_stacks_are_read_as_well_if_the_server_takes_the_wakeup_descriptor() -> None:
    def deaf(plan: Plan, stopped: Stop) -> None:
        signal.set_wakeup_fd(-1)
        print("deaf")
        stopped.wait()

    with running(deaf) as server:
        wait_for_output(server, b"deaf")
        assert "in deaf" in server.host.dump()


# -- starting, stopping, starting again


def test_many_servers_come_and_go_and_nothing_is_left() -> None:
    for _ in range(3):
        with running(Upper):
            pass
    gc.collect()
    threads, before = threading.enumerate(), open_descriptors()
    for _ in range(20):
        with running(Upper) as server, server.connect() as client:
            assert ask(client, b"hi") == b"HI"

    assert not new_threads(threads)
    assert not new_descriptors(before)


def test_servers_may_be_launched_from_several_threads_at_once() -> None:
    replies: list[bytes] = []

    def one() -> None:
        with running(Upper) as server, server.connect() as client:
            replies.append(ask(client, b"hi"))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)

    assert replies == [b"HI"] * 6


def test_the_address_is_free_for_the_next_server() -> None:
    first = launch(Upper)
    address = first.host.address
    assert first.stop() == []
    listener = bound_socket("stream", "inet", address=address)
    with running(Upper, listener=listener) as second, second.connect() as client:
        assert second.host.address == address
        assert ask(client, b"hi") == b"HI"


def test_a_host_can_be_started_again() -> None:
    host = ProcessHost()
    for _ in range(2):
        ear = Ear()
        host.start(
            Plan(HandlerTarget(Upper), Kind.parse("ForkingTCPServer"), ear, bound_socket("stream", "inet"))
        )
        with StreamClient.connect(host.address) as client:
            assert ask(client, b"hi") == b"HI"
        assert host.stop(Deadline(SOON, "the server to stop")) == []


def test_starting_twice_and_stopping_twice_are_harmless() -> None:
    server = launch(Upper)
    with pytest.raises(UsageError, match="started already"):
        server.host.start(Plan(HandlerTarget(Upper), server.kind, server.ear, None))
    assert server.stop() == []

    assert server.stop() == []
    assert server.host.pid is None
    assert server.host.dump() == "there is no server process"


def test_there_is_no_address_before_the_start() -> None:
    with pytest.raises(UsageError, match="not been started"):
        assert ProcessHost().address


def test_a_crash_on_purpose_cuts_clients_off_and_frees_the_address() -> None:
    server = launch(Upper)
    pid = server.pid
    with server.connect() as client:
        assert ask(client, b"hi") == b"HI"
        server.host.kill()
        assert client.read_eof() == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()
    assert wait_for_end(pid)
    assert server.stop() == []

    assert list(server.ear.errors) == []

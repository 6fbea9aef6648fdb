"""Every predefined server class lives every life: found by introspection, so that a new class is tested before its author writes a test.

SERVERTEST_UNDER_TEST names another module to put under test: with `socketserver`, the lives that only a cure makes possible are left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from time import monotonic
from typing import Any, Self

import pytest

from tests.servers._lifecycle import LIMIT, LIVES, Life

TARGET = os.environ.get("SERVERTEST_UNDER_TEST", "servertest.servers")
MODULE: Any = import_module(TARGET)

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="each life is led in a forked process, and this platform has no fork"
)


def predefined() -> list[Any]:
    """All server classes that the module offers, what it loads lazily included."""
    found = {getattr(MODULE, name) for name in dir(MODULE) if not name.startswith("_")}
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, MODULE.BaseServer)]
    return sorted(set(classes) - {MODULE.BaseServer}, key=lambda cls: cls.__name__)


class Host:
    """The process that forks a process for each life."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors.open("a+b")
        self._buffer = b""
        self._read = 0
        self._lives = 0
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", str(Path(__file__).with_name("_lifecycle.py")), TARGET],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LIMIT)
        self._process.kill()
        self._process.wait(LIMIT)
        self._process.stdout.close()
        self._errors.close()

    def begin(self, **job: object) -> int:
        """Begin a life; returns its number."""
        self._lives += 1
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps({"number": self._lives, **job}) + "\n").encode())
        self._process.stdin.flush()
        return self._lives

    def next_event(self, life: int) -> dict[str, Any] | None:
        """What is said next about this life; None if nothing is said in time."""
        deadline = monotonic() + LIMIT
        while (event := self._read_event(deadline)) is not None:
            if event["life"] == life:
                return event
        return None

    def _read_event(self, deadline: float) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._process.stdout], [], [], max(deadline - monotonic(), 0))
            chunk = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                return None
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        event: dict[str, Any] = json.loads(line)
        return event

    def errors(self) -> str:
        """What was written to stderr since the last time."""
        self._errors.seek(self._read)
        said = self._errors.read()
        self._read += len(said)
        return said.decode(errors="replace")


class Player:
    """The test's side of a life: its client. The context ends whatever is left of that life."""

    def __init__(self, host: Host, cls: Any, life: Life, directory: Path) -> None:
        self.is_stream = cls.socket_type == socket.SOCK_STREAM
        self.is_synchronous = cls.process_request is MODULE.BaseServer.process_request
        self.forks = issubclass(cls, getattr(MODULE, "ForkingMixIn", ()))
        self._family = cls.address_family
        self._host = host
        self._directory = directory
        self._clients = 0
        self._pid: int | None = None
        self._has_ended = False
        self._address: Any = str(directory / "s") if self._family == socket.AF_UNIX else ("127.0.0.1", 0)
        self._life = host.begin(**{"class": cls.__name__}, lead=str(life), address=self._address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._end()
        if error is not None:
            error.add_note(self._host.errors())

    def await_event(self, event: str) -> dict[str, Any]:
        said = self._next_event()
        if said is None or said["event"] != event:
            happened = f"{said}" if said else f"nothing for {LIMIT:g} s"
            pytest.fail(f"it should say that it is {event}, but: {happened}")
        match event:
            case "born":
                self._pid = said["pid"]
            case "serving":
                address = said["address"]
                self._address = tuple(address) if isinstance(address, list) else address
            case "ended":
                self._pid = None
        return said

    def _end(self) -> None:
        """End a life that hangs, and all that belongs to it; its stacks go to stderr."""
        if self._pid is None:
            return
        pid, self._pid = self._pid, None
        if not self._has_ended:
            os.kill(pid, signal.SIGABRT)
        while not self._has_ended and self._next_event() is not None:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    def _next_event(self) -> dict[str, Any] | None:
        said = self._host.next_event(self._life)
        self._has_ended = self._has_ended or (said is not None and said["event"] == "ended")
        return said

    def exchange(self, request: bytes = b"hello\n", *, to_the_end: bool = True) -> None:
        with self._connected() as sock:
            sock.sendall(request)
            assert self._reply(sock, len(request)) == request.upper()
            if self.is_stream and to_the_end:
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""

    def provoke(self, request: bytes) -> None:
        with self._connected() as sock:
            sock.sendall(request)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""  # a datagram handler that failed says nothing, in so many words

    @contextlib.contextmanager
    def converse(self) -> Iterator[Any]:
        with self._connected() as sock:

            def say(line: bytes) -> None:
                sock.sendall(line)
                assert self._reply(sock, len(line)) == line.upper()

            yield say

    def signal(self) -> None:
        assert self._pid is not None
        os.kill(self._pid, signal.SIGUSR1)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(self._family, socket.SOCK_STREAM if self.is_stream else socket.SOCK_DGRAM) as sock:
            sock.settimeout(LIMIT)
            if self._family == socket.AF_UNIX and not self.is_stream:
                self._clients += 1
                sock.bind(str(self._directory / f"c{self._clients}"))
            sock.connect(self._address)
            yield sock

    def _reply(self, sock: socket.socket, size: int) -> bytes:
        reply = b""
        while len(reply) < size and (chunk := sock.recv(size - len(reply))):
            reply += chunk
        return reply


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Host(tmp_path_factory.mktemp("host") / "errors") as started:
        yield started


@pytest.fixture
def directory() -> Iterator[Path]:
    """A folder whose paths fit into sun_path, as pytest's own may not."""
    with tempfile.TemporaryDirectory(prefix="st-") as path:
        yield Path(path)


def test_the_matrix_is_complete() -> None:
    """What the module offers under its own name is all that its files define."""
    names = {cls.__name__ for cls in predefined()}
    modules = [
        MODULE,
        *(import_module(f"{TARGET}.{info.name}") for info in iter_modules(getattr(MODULE, "__path__", ()))),
    ]
    defined = {
        name for module in modules for name in module.__dict__.get("__all__", ()) if name.endswith("Server")
    }

    assert names == defined - {"BaseServer"}
    assert len(names) >= 10


@pytest.mark.parametrize(
    "life", [life for life in LIVES if TARGET != "socketserver" or not life.is_cure], ids=str
)
@pytest.mark.parametrize("cls", predefined(), ids=lambda cls: cls.__name__)
def test_life(host: Host, directory: Path, cls: Any, life: Life) -> None:
    with Player(host, cls, life, directory) as player:
        player.await_event("born")

        life.drive(player)

        left = player.await_event("left")["left"]
        code = player.await_event("ended")["code"]
    assert left == []
    assert (code, host.errors()) == (0, "")

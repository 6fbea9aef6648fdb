"""Proxies to be compared: a link of ours, nginx with its stream module, and socat; each in a process, before the same backend."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.bench._load import Address
from tests.bench._sampling import LIFETIME, PATIENCE, ROOT, Failed, Open, Sample, Scale, python
from tests.bench._server import BACKLOG

__all__ = ("Relaying", "link", "nginx", "socat", "through")

#: Opens a proxy to that address; gives its own, and the number of its process.
Relaying = Callable[[Address], AbstractContextManager[tuple[Address, int]]]

_STREAM_MODULES = (
    os.environ.get("NGINX_STREAM_MODULE", ""),
    "/usr/lib/nginx/modules/ngx_stream_module.so",  # Debian's libnginx-mod-stream
)


@dataclass(frozen=True, slots=True)
class Link:
    """A link with these faults."""

    faults: str | None = None
    record: bool = False

    @contextlib.contextmanager
    def __call__(self, upstream: Address) -> Iterator[tuple[Address, int]]:
        spec = {"upstream": upstream, "faults": self.faults, "record": self.record, "limit": LIFETIME}
        with _started(python("-m", "tests.bench._linked", json.dumps(spec))) as child:
            yield _address_said(child), child.pid


def link(faults: str | None = None, *, record: bool = False) -> Relaying:
    """A link of ours."""
    return Link(faults, record)


@contextlib.contextmanager
def nginx(upstream: Address) -> Iterator[tuple[Address, int]]:
    """One worker of nginx. It is handed a listening socket, as a new binary is by the one that it replaces."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise Failed("there is no nginx here (Debian: nginx-light and libnginx-mod-stream)")
    with tempfile.TemporaryDirectory() as place, _listener() as listener:
        host, port = listener.getsockname()
        Path(place, "conf").write_text(
            f"{_stream_module()} {_user()} daemon off; worker_processes 1; pid {place}/pid; error_log {place}/log;"
            "events { worker_connections 9000; }"
            f"stream {{ server {{ listen {host}:{port} backlog={BACKLOG}; proxy_pass {upstream[0]}:{upstream[1]}; }} }}"
        )
        os.set_inheritable(listener.fileno(), True)
        command = [program, "-p", place, "-c", f"{place}/conf", "-e", f"{place}/log"]
        environment = {**os.environ, "NGINX": f"{listener.fileno()};"}
        with _started(command, env=environment, pass_fds=[listener.fileno()]) as child:
            yield (host, port), child.pid


@contextlib.contextmanager
def socat(upstream: Address) -> Iterator[tuple[Address, int]]:
    """socat, with buffers as large as make it fastest."""
    program = shutil.which("socat")
    if program is None:
        raise Failed("there is no socat here (Debian: socat)")
    there = f"TCP:{upstream[0]}:{upstream[1]}"
    command = [program, "-d", "-d", "-b", "131072", "TCP-LISTEN:0,fork,bind=127.0.0.1", there]
    with _started(command, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        for line in child.stderr:  # bounded by the lifetime of the process
            if b"listening on" in line:
                host, _, port = line.rsplit(None, 1)[1].decode().rpartition(":")
                # What it says about each connection has to go somewhere.
                with subprocess.Popen(["cat"], stdin=child.stderr, stdout=subprocess.DEVNULL) as drain:
                    try:
                        yield (host, int(port)), child.pid
                    finally:
                        drain.kill()
                return
        raise Failed("socat ended before it listened")


def through(relaying: Relaying, measure: Callable[[Address, Scale, int], float]) -> Open:
    """One side of a figure: what is measured through a proxy, before a backend of its own."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], Sample]]:
        backend = python("-m", "tests.bench._backend", str(LIFETIME))
        with _started(backend) as child, relaying(_address_said(child)) as (address, pid):
            try:
                with socket.create_connection(address, PATIENCE) as first:
                    first.sendall(b"hello")
                    if first.recv(64) != b"hello":
                        raise Failed("the proxy does not lead to the backend")
            except OSError as error:
                raise Failed(f"the proxy cannot be reached: {error}") from error
            yield lambda: Sample(measure(address, scale, pid))

    return opened


@contextlib.contextmanager
def _started(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, process_group=0, **options)  # type: ignore[call-overload]
    try:
        yield child
    finally:
        # socat's children are a process for each connection.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, 9)
        child.wait(PATIENCE)
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()


def _address_said(child: subprocess.Popen[bytes]) -> Address:
    assert child.stdout is not None
    line = child.stdout.readline()  # bounded by the child's own lifetime
    if not line:
        raise Failed("the process ended before it listened")
    host, port = json.loads(line)[:2]
    return host, port


def _listener() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    made.setblocking(False)
    return made


def _user() -> str:
    """Workers of a master that is root would be nobody, and could not read what is ours."""
    return "user root;" if os.getuid() == 0 else ""


def _stream_module() -> str:
    for path in _STREAM_MODULES:
        if path and os.path.exists(path):
            return f"load_module {path};"
    if b"--with-stream " in subprocess.run(["nginx", "-V"], capture_output=True, check=False).stderr:
        return ""
    raise Failed("nginx has no stream module here (Debian: libnginx-mod-stream)")

"""The engine for long, observed runs: Locust, as child processes. It is never imported here, for it patches the interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import UsageError, family_of
from ._lines import Lines
from ._local import SwarmFailed, package_root
from ._merging import Merging

if TYPE_CHECKING:
    from ._job import Job

__all__ = ("LocustRunner",)

_GRACE = 8.0
"""Seconds that Locust gets to end by itself."""


class LocustRunner:
    """Has a job played by a master and workers of Locust.

    Args:
        job: What to do.
        workers: How many worker processes.
        web: Serve Locust's web UI at ``HOST:PORT`` or ``PORT`` (on the loopback interface) while it goes on; None for no UI.

    Raises:
        UsageError: Locust is not installed, a value is malformed, or somebody else has the port.
    """

    name = "locust"

    def __init__(self, job: Job, *, workers: int = 2, web: str | int | None = None) -> None:
        if util.find_spec("locust") is None:
            raise UsageError("the engine 'locust' needs Locust: install servertest[load]")
        if type(workers) is not int or workers < 1:
            raise UsageError(f"workers is a whole number, at least 1, not {workers!r}")
        ui = _web(web)
        self._workers = workers
        self._merging = Merging(workers)
        self._children: list[subprocess.Popen[bytes]] = []
        self._stack = contextlib.ExitStack()
        # It may hold the key with which clients identify themselves: it goes through pipes, and into no file.
        self._job = json.dumps(job.as_dict()).encode() + b"\n"
        try:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the children
            self._stack.callback(self._log.close)
            self._start_master(job, ui)
        except BaseException:
            self.close()
            raise

    def _start_master(self, job: Job, ui: list[str]) -> None:
        said, out = os.pipe()
        self._stack.callback(os.close, said)
        self._lines = Lines(said)
        clients = str(job.profile.clients)
        words = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0"]
        words += ["--expect-workers", str(self._workers), "--users", clients, "--spawn-rate", clients]
        try:
            self._start([*words, *ui], {"SERVERTEST_SWARM_OUT": str(out)}, keep=(out,))
        finally:
            os.close(out)

    def _start(
        self, words: list[str], variables: dict[str, str], keep: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, (package_root(), os.environ.get("PYTHONPATH", ""))))
        file = Path(__file__).parent / "far" / "locustfile.py"
        child = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-m", "locust", "-f", str(file), "--loglevel", "WARNING", *words],
            cwd=file.parent,  # elsewhere there might be files that configure Locust
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **variables, "PYTHONPATH": path},
            pass_fds=keep,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What they have said, put together; waits for something, at most so long.

        Raises:
            SwarmFailed: One of them has ended without a result.
        """
        until = time.monotonic() + seconds
        while True:
            found = [said for line in self._lines.take() for said in self._hear(json.loads(line))]
            if found:
                return found
            self._look()
            left = until - time.monotonic()
            if left <= 0:
                return []
            # Once a second somebody looks whether a worker has died, of which the master says nothing.
            self._lines.wait(min(left, 1.0))

    def _hear(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        if report["kind"] == "port":
            where = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(report["port"])]
            workers = {
                "SERVERTEST_SWARM_WORKERS": str(self._workers),
                "SERVERTEST_SWARM_DIRECTORY": os.getcwd(),
            }
            for _ in range(self._workers):
                _say(self._start(where, workers), self._job)
            return []
        return self._merging.hear(report["worker"], report)

    def _look(self) -> None:
        for child in self._children:
            if child.poll() is not None:
                raise SwarmFailed(f"Locust has ended with status {child.returncode}{self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        # At its end Locust prints its statistics, of which there are none.
        text = self._log.read().decode(errors="replace").partition("\nType  ")[0].strip()
        return f":\n{text[-2000:]}" if text else ""

    def stop(self) -> None:
        """Have them end now. The results come as usual."""
        if self._children:
            _say(self._children[0], b"stop\n")

    def close(self) -> None:
        """End them, by force if need be, and give everything back."""
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE
        for child in self._children:
            try:
                child.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
        self._children.clear()
        self._stack.close()


def _say(child: subprocess.Popen[bytes], line: bytes) -> None:
    """Write a line to the standard input of a process; when that ends, it ends by itself."""
    assert child.stdin is not None
    with contextlib.suppress(OSError):  # one that has died already is found when it is looked at
        child.stdin.write(line)
        child.stdin.flush()


def _web(web: str | int | None) -> list[str]:
    """What makes Locust serve its UI, or not."""
    if web is None:
        return ["--headless", "--only-summary"]
    host, _, port = str(web).rpartition(":")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"web is HOST:PORT or a port from 1 to 65535, not {web!r}")
    host = host or "127.0.0.1"
    try:
        # Locust would say so only after some seconds, and not clearly.
        socket.create_server((host.strip("[]"), int(port)), family=family_of((host.strip("[]"), 0))).close()
    except OSError as error:
        raise UsageError(f"web: {host}:{port} cannot be had: {os.strerror(error.errno or 0)}") from None
    return ["--autostart", "--web-host", host, "--web-port", port]

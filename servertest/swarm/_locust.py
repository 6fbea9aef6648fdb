"""The engine for long, observed runs: Locust, as child processes. It is never imported here, for it patches the interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import UsageError
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
        UsageError: Locust is not installed, or a value is malformed.
    """

    name = "locust"

    def __init__(self, job: Job, *, workers: int = 2, web: str | None = None) -> None:
        if util.find_spec("locust") is None:
            raise UsageError("the engine 'locust' needs Locust: install servertest[load]")
        if workers < 1:
            raise UsageError(f"workers is a whole number, at least 1, not {workers!r}")
        self._workers = workers
        self._merging = Merging(workers)
        self._children: list[subprocess.Popen[bytes]] = []
        self._stack = contextlib.ExitStack()
        self._buffer = b""
        self._out = -1
        try:
            self._directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            self._log = self._stack.enter_context((self._directory / "log").open("w+b"))
            (self._directory / "job.json").write_text(json.dumps(job.as_dict()), encoding="utf-8")
            self._start_master(job, web)
        except BaseException:
            self.close()
            raise

    def _start_master(self, job: Job, web: str | None) -> None:
        self._out, out = os.pipe()
        os.set_blocking(self._out, False)
        clients = str(job.profile.clients)
        words = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0"]
        words += ["--expect-workers", str(self._workers), "--users", clients, "--spawn-rate", clients]
        try:
            self._start([*words, *_web(web)], {"SERVERTEST_SWARM_OUT": str(out)}, keep=(out,))
        finally:
            os.close(out)

    def _start(self, words: list[str], variables: dict[str, str], keep: tuple[int, ...] = ()) -> None:
        path = os.pathsep.join(filter(None, (package_root(), os.environ.get("PYTHONPATH", ""))))
        variables |= {
            "PYTHONPATH": path,
            "SERVERTEST_SWARM_JOB": str(self._directory / "job.json"),
            "SERVERTEST_SWARM_WORKERS": str(self._workers),
        }
        file = Path(__file__).parent / "far" / "locustfile.py"
        self._children.append(
            subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", "locust", "-f", str(file), "--loglevel", "WARNING", *words],
                cwd=self._directory,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **variables},
                pass_fds=keep,
                start_new_session=True,
            )
        )

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What they have said, put together; waits for something, at most so long.

        Raises:
            SwarmFailed: One of them has ended without a result.
        """
        until = time.monotonic() + seconds
        while True:
            found = [said for line in self._lines() for said in self._hear(json.loads(line))]
            if found:
                return found
            self._look()
            left = until - time.monotonic()
            if left <= 0:
                return []
            # Once a second somebody looks whether a worker has died, of which the master says nothing.
            select.select([self._out], [], [], min(left, 1.0))

    def _lines(self) -> list[bytes]:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._out, 1 << 20):
                self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        return lines

    def _hear(self, report: dict[str, Any]) -> list[dict[str, Any]]:
        if report["kind"] == "port":
            where = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(report["port"])]
            for _ in range(self._workers):
                self._start(where, {})
            return []
        return self._merging.hear(report["worker"], report)

    def _look(self) -> None:
        for child in self._children:
            if child.poll() is not None:
                raise SwarmFailed(f"Locust has ended with status {child.returncode}{self._said()}")

    def _said(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        return f":\n{text[-2000:]}" if text else ""

    def stop(self) -> None:
        """Have them end now. The results come as usual."""
        if self._children:
            stdin = self._children[0].stdin
            assert stdin is not None
            with contextlib.suppress(OSError):
                stdin.close()

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
        if self._out >= 0:
            os.close(self._out)
            self._out = -1
        self._stack.close()


def _web(web: str | None) -> list[str]:
    """What makes Locust serve its UI, or not."""
    if web is None:
        return ["--headless", "--only-summary"]
    host, _, port = web.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"web is HOST:PORT or a port, not {web!r}")
    return ["--autostart", "--web-host", host or "127.0.0.1", "--web-port", port]

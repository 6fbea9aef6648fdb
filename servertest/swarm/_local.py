"""The engine that is used if nothing is said: one child process on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._support import ServertestError
from ._lines import Lines

if TYPE_CHECKING:
    from ._job import Job

__all__ = ("LocalRunner", "SwarmFailed", "package_root")

_GRACE = 5.0
"""Seconds that a child gets to end by itself."""


class SwarmFailed(ServertestError, RuntimeError):  # noqa: N818 - named as the other errors are
    """The engine of a swarm could not do its work, or has ended without a result."""


def package_root() -> str:
    """The directory from which this package was imported."""
    return str(Path(__file__).resolve().parents[2])


class LocalRunner:
    """Has a job played by a child process.

    Args:
        job: What to do.
    """

    name = "local"

    def __init__(self, job: Job) -> None:
        path = os.pathsep.join(filter(None, (package_root(), os.environ.get("PYTHONPATH", ""))))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the child
        self._child = subprocess.Popen(
            [sys.executable, "-m", "servertest.swarm._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in a terminal is for us alone: the results are to be kept
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._lines = Lines(self._child.stdout.fileno())
        try:
            self._child.stdin.write(json.dumps(job.as_dict()).encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            pass  # it has died already: reading tells why

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What the child has said; waits for something, at most so long.

        Raises:
            SwarmFailed: It has ended without a result.
        """
        until = time.monotonic() + seconds
        while True:
            if lines := self._lines.take():
                return [json.loads(line) for line in lines]
            if self._lines.ended:
                raise SwarmFailed(f"the process of the swarm has ended without a result{self._said()}")
            left = until - time.monotonic()
            if left <= 0:
                return []
            self._lines.wait(left)

    def stop(self) -> None:
        """Tell the child to end now. Its result comes as usual."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    def close(self) -> None:
        """End the child, by force if need be, and give everything back."""
        self.stop()
        try:
            self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()

    def _said(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE)
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace").strip()
        status = self._child.poll()
        return f" (exit status {status})" + (f":\n{text[-2000:]}" if text else "")

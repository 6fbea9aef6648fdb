"""An engine in a thread of this process: where there are no other processes, as in a simulation."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import TYPE_CHECKING, Any

from .._support import ServertestError
from ._engine import Engine
from ._local import SwarmFailed

if TYPE_CHECKING:
    from ._job import Job

__all__ = ("ThreadRunner",)

_GRACE = 5.0
"""Seconds that the engine gets to end when it was told to."""


class ThreadRunner:
    """Has a job played by a thread. It takes processor time from whatever else is in the process; in virtual time that makes no difference.

    Args:
        job: What to do.
    """

    name = "thread"

    def __init__(self, job: Job) -> None:
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._stops, self._stopper = os.pipe()
        try:
            engine = Engine(job, self._said.put, stop_fd=self._stops)
        except BaseException:
            self._close_pipe()
            raise
        self._thread = threading.Thread(
            target=self._play, args=(engine,), name="servertest swarm", daemon=True
        )
        self._thread.start()

    def _play(self, engine: Engine) -> None:
        try:
            self._said.put(engine.run())
        except (ServertestError, OSError) as error:
            self._said.put({"kind": "error", "type": type(error).__name__, "message": str(error)})
        finally:
            self._said.put(None)

    def reports(self, seconds: float) -> list[dict[str, Any]]:
        """What the engine has said; waits for something, at most so long.

        Raises:
            SwarmFailed: It has ended without a result.
        """
        found: list[dict[str, Any]] = []
        with contextlib.suppress(queue.Empty):
            one = self._said.get(timeout=seconds) if seconds > 0 else self._said.get_nowait()
            while one is not None:
                found.append(one)
                one = self._said.get_nowait()
            if not found:
                raise SwarmFailed("the thread of the swarm has ended without a result")
            self._said.put(None)  # it is over, whoever asks again
        return found

    def stop(self) -> None:
        """Tell the engine to end now. Its result comes as usual."""
        if self._stopper >= 0:
            os.write(self._stopper, b"x")

    def close(self) -> None:
        """End the engine, and give everything back."""
        self.stop()
        self._thread.join(_GRACE)
        self._close_pipe()

    def _close_pipe(self) -> None:
        for fd in (self._stops, self._stopper):
            if fd >= 0:
                os.close(fd)
        self._stops = self._stopper = -1

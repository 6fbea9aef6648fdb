"""A subject as checks see it: its conversations, its promises, and a way to hold planned conversations with it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from .._support import DeadlineExceeded, ServertestError
from ..launch import FunctionTarget, Kind, Running, launch
from ._rehearsal import Stage
from ._worker import Job, Worker, read_frame, write_frame

__all__ = ("Bench", "Profile")

Profile: TypeAlias = Literal["quick", "full"]
"""quick: what takes long is tried on samples. full: everything, and a search for inputs that nobody thought of."""

#: Seconds of real time that one rehearsed conversation may take.
LIMIT = 2.0


class Bench:
    """Holds planned conversations with a handler in a process of its own.

    Args:
        target: The handler.
        stage: Makes the stage on which that is done, in the subject's process.
    """

    def __init__(self, target: Any, stage: Callable[[Any], AbstractContextManager[Any]] = Stage) -> None:
        self._target = target
        self._stage = stage
        self._running: Running | None = None
        self._stack = ExitStack()
        self._file: Any = None
        self._control: socket.socket | None = None
        self.held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the subject's process."""
        with suppress(ServertestError, OSError):
            self._stack.close()
        self._control = self._file = None

    def _open(self) -> None:
        kind = Kind("stream", "unix", "sync", host="process")
        running = launch(
            FunctionTarget(Worker(self._target, self._stage)), kind=kind, transcript=False, timeout=1.0
        )
        self._stack.callback(_end, running)
        control = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        control.connect(running.address)
        self._control, self._file = control, self._stack.enter_context(control.makefile("rb"))

    def why_not(self, plan: Any) -> str:
        """Why a plan cannot be carried out here; nothing if it can."""
        return ""

    def rehearse(self, plans: Iterable[Any], *, fresh: bool = False, limit: float = LIMIT) -> list[Any]:
        """Hold conversations one after the other.

        Args:
            plans: What clients do: a `Plan` or a `DatagramPlan` each.
            fresh: Whether each of them is to find the subject as it was after its import.
            limit: Seconds of real time that each may take.

        Returns:
            As many records: a `Record` or a `Delivery` each.

        Raises:
            DeadlineExceeded: The subject's process does not answer at all.
            ServertestError: The subject cannot be taken to a process.
        """
        job = Job(tuple(plans), fresh, limit)
        if not job.plans:
            return []
        if self._control is None:
            self._open()
        assert self._control is not None
        records: list[Any] = []
        try:
            self._control.settimeout(limit + 20)
            write_frame(self._control, job)
            for _ in job.plans:
                record = read_frame(self._file)
                if record is None:
                    raise EOFError("the subject's process has ended")
                records.append(record)
        except TimeoutError:
            self.close()
            raise DeadlineExceeded(
                f"record {len(records) + 1} of {len(job.plans)} from the subject's process", limit + 20
            ) from None
        except BaseException:
            self.close()
            raise
        self.held += len(records)
        return records


def _end(running: Running) -> None:
    with suppress(ServertestError):
        running.stop(1.0)

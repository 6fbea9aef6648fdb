"""The subject's process: holds conversations with the handler where they can do no harm.

It is a server process as `launch` makes them, forked from a clean one, and takes jobs over a connection: each is a list of plans, and gives as many
records. Every job is done in a fork of this process, so that it begins with the state that the subject's modules have after their import. One that
does not come back is made to write its stacks down and to end; the next plan goes on in another fork.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from ..launch import HandlerTarget
from ..servers import DatagramRequestHandler, StreamRequestHandler
from ._plan import DatagramPlan, Delivery, Plan, Record
from ._rehearsal import Stage
from ._steps import subject_files

__all__ = ("Job", "Worker", "read_frame", "write_frame")

_HEAD = struct.Struct("<I")
#: Bytes by which the address space of a fork may grow.
_SPACE = 2 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """Plans to be carried out.

    Attributes:
        plans: One conversation after the other.
        fresh: Whether each of them is to find the subject as it was after its import.
        limit: Seconds of real time that each may take.
    """

    plans: tuple[Any, ...]
    fresh: bool = False
    limit: float = 2.0


@dataclass(frozen=True, slots=True)
class Worker:
    """What runs in the subject's process: called with the listening socket, it serves one client after the other.

    Attributes:
        target: The subject.
        stage: Makes the stage on which it is held conversations with.
    """

    target: Any
    stage: Callable[[Any], AbstractContextManager[Any]] = Stage

    __name__ = __qualname__ = "subject"

    def __call__(self, listener: socket.socket) -> None:
        """Serve until the listener fails."""
        _prepare(self.target, self.stage)
        while True:
            connection, _ = listener.accept()
            with socket.socket(fileno=connection.detach()) as control:
                self._serve(control)

    def _serve(self, control: socket.socket) -> None:
        with control.makefile("rb") as file:
            while (job := read_frame(file)) is not None:
                self._work(job, control)

    def _work(self, job: Job, control: socket.socket) -> None:
        done = 0
        while done < len(job.plans):
            part = job.plans[done : done + 1] if job.fresh else job.plans[done:]
            done += self._in_a_fork(part, job, control)

    def _in_a_fork(self, plans: tuple[Any, ...], job: Job, control: socket.socket) -> int:
        """How many of them are dealt with."""
        near, far = os.pipe()
        with tempfile.TemporaryFile() as stacks:
            pid = os.fork()
            if pid == 0:
                os.close(near)
                self._perform(plans, job, control, far, stacks)
            os.close(far)
            _, status = os.waitpid(pid, 0)
            done = _count(near)
            if done < len(plans):
                write_frame(control, _unfinished(record_kind(plans[done]), status, stacks))
                done += 1
        return done

    def _perform(
        self, plans: tuple[Any, ...], job: Job, control: socket.socket, counts: int, stacks: IO[bytes]
    ) -> NoReturn:
        status = 1
        try:
            own = os.getpid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # Nobody can measure here, and a tracer in C does not survive it that steps are taken one by one (SIGSEGV on 3.12).
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type, unused-ignore]
            _limit_space()
            threading.stack_size(1 << 19)  # or each thread would seem to take eight megabytes
            with self.stage(self.target) as stage:
                for record in _records(stage, plans, job.limit, stacks, own):
                    write_frame(control, record)
                    os.write(counts, b".")
            status = 0
        finally:
            os._exit(status)


def _records(stage: Any, plans: tuple[Any, ...], limit: float, stacks: IO[bytes], own: int) -> Iterator[Any]:
    for plan in plans:
        faulthandler.dump_traceback_later(limit, exit=True, file=stacks)
        record = stage.play(plan)
        if os.getpid() != own:
            os._exit(0)  # the subject has forked, and its child has come back out of the handler
        faulthandler.cancel_dump_traceback_later()
        yield record


def _count(pipe: int) -> int:
    """How many bytes have come through a pipe, whose other end children of the subject may still hold."""
    total = 0
    os.set_blocking(pipe, False)
    try:
        while data := os.read(pipe, 65_536):
            total += len(data)
    except BlockingIOError:
        pass
    finally:
        os.close(pipe)
    return total


def _prepare(target: Any, make: Callable[[Any], AbstractContextManager[Any]]) -> None:
    """What every fork would have to do anew: there are hundreds of them. The subject itself is not touched."""
    _one_arena()
    if isinstance(target, HandlerTarget):
        subject_files(target.handler)
    for handler, plan in (
        (StreamRequestHandler, Plan.of(b"\n")),
        (DatagramRequestHandler, DatagramPlan.of(b"")),
    ):
        with contextlib.suppress(Exception), make(handler) as stage:  # what fails here fails there, too
            pickle.dumps(stage.play(plan))
    gc.collect()
    gc.freeze()  # or each fork copies the pages of all that is collected there


def _one_arena() -> None:
    """Have threads allocate where the first one does: an arena of their own reserves 64 MiB, which looks like a handler's greed."""
    try:
        import ctypes

        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX, of glibc
    except (ImportError, OSError, AttributeError):
        pass


def _limit_space() -> None:
    """What asks for too much memory gets a MemoryError, and not all that the machine has."""
    try:
        with open("/proc/self/statm") as file:
            space = int(file.read().split()[0]) * resource.getpagesize() + _SPACE
        resource.setrlimit(resource.RLIMIT_AS, (space, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (OSError, ValueError):
        pass  # no such limit here


def record_kind(plan: Any) -> type[Record | Delivery]:
    """What comes of such a plan."""
    return Delivery if isinstance(plan, DatagramPlan) else Record


def _unfinished(kind: type[Record | Delivery], status: int, stacks: IO[bytes]) -> Record | Delivery:
    stacks.seek(0)
    text = stacks.read().decode("utf-8", "backslashreplace").strip()
    if text:
        return kind(outcome="hung", stacks=text)
    how = f"signal {-code}" if (code := os.waitstatus_to_exitcode(status)) < 0 else f"exit status {code}"
    return kind(outcome="died", stacks=f"the process ended with {how}")


def write_frame(sock: socket.socket, value: object) -> None:
    """Send a value."""
    data = pickle.dumps(value)
    sock.sendall(_HEAD.pack(len(data)) + data)


def read_frame(file: Any) -> Any:
    """Receive a value; None at the end."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    data = file.read(_HEAD.unpack(head)[0])
    return pickle.loads(data)  # noqa: S301 - from a process that this one has started

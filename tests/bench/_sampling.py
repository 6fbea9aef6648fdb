"""Ways to measure one side of a ratio. Each opens what it measures and gives a function that takes one sample of it.

Both sides of a ratio are open at the same time and sampled in turns, A B A B, in slices of a tenth of a second or so: a machine that slows
down for a while then slows both. The side that is not being sampled has nothing to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.bench import _load as load

__all__ = ("Failed", "Open", "Sample", "Scale", "Spec", "importing", "inside", "python", "rate", "transfer")

ROOT = Path(__file__).resolve().parents[2]
LIFETIME = 120  # seconds after which a process under measurement ends by itself
PATIENCE = 20.0  # seconds for a killed process to be gone


class Failed(RuntimeError):
    """Something could not be measured; the message holds what the process said."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much work each sample does."""

    factor: float = 1.0

    def __call__(self, count: int, *, least: int = 32) -> int:
        return max(int(count * self.factor), least)


@dataclass(frozen=True, slots=True)
class Spec:
    """A server process, as `_server` knows it."""

    module: str
    class_name: str = ""
    handler: str = "lines"

    def as_json(self) -> str:
        """What the process is started with."""
        return json.dumps(
            {"module": self.module, "class": self.class_name, "handler": self.handler, "limit": LIFETIME}
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: the figure itself, and the seconds of processor time that the server's process spent on each unit.

    `cpu` is what a busy machine disturbs least. None where it cannot be had.
    """

    value: float
    cpu: float | None = None


#: Opens one side; the function that it gives takes one sample.
Open = Callable[[Scale], AbstractContextManager[Callable[[], Sample]]]


def python(*arguments: str) -> list[str]:
    """An interpreter like this one, with these arguments."""
    # Warnings off: from 3.12 forking servers warn that they fork beside other threads, which here they are meant to.
    return [sys.executable, "-W", "ignore", *arguments]


@contextlib.contextmanager
def _served(spec: Spec) -> Iterator[tuple[load.Address, int]]:
    """A server process; gives its address and pid, and ends it with all its children."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            python("-m", "tests.bench._server", spec.as_json()),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Not a session of its own: Linux shares the processors out between sessions (sched(7), autogroup), and would hold the load generator
            # and the server apart in a way that no server meets whose clients are in the same session.
            process_group=0,
        )
        assert child.stdout is not None
        try:
            line = child.stdout.readline()  # bounded by the child's own lifetime
            if not line:
                raise Failed("the server process ended before it listened")
            host, port = json.loads(line)[:2]
            yield (host, port), child.pid
        except (OSError, Failed) as error:
            _kill(child)
            errors.seek(0)
            raise Failed(f"{error}\n{errors.read().decode(errors='replace')[-2000:]}".strip()) from error
        finally:
            _kill(child)
            child.stdout.close()


def _kill(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(PATIENCE)


def _output_of(*command: str) -> str:
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIFETIME, check=False)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[-1]} did not end within {LIFETIME} s") from error
    if ran.returncode:
        raise Failed(ran.stderr.strip()[-2000:] or f"ended with status {ran.returncode}")
    return ran.stdout


def _cpu_time(pid: int) -> float | None:
    """Seconds of processor time of a process: of all its threads, and of the children that it has collected."""
    if sys.platform != "linux":
        return None
    # The number of another process's clock: see clock_getcpuclockid(3); 2 is the scheduler's own, exact account.
    own = time.clock_gettime((~pid << 3) | 2)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = int(fields[13]) + int(fields[14])  # cutime and cstime in ticks: proc_pid_stat(5)
    return own + children / os.sysconf("SC_CLK_TCK")


def _sampled(measure: Callable[[], float], units: int, pid: int, *, is_whole: bool = True) -> Sample:
    before = _cpu_time(pid)
    value = measure()
    after = _cpu_time(pid)
    return Sample(
        value, None if before is None or after is None or not is_whole else (after - before) / units
    )


def rate(
    generator: Callable[[load.Address, int, int], float],
    count: int,
    clients: int,
    spec: Spec,
    *,
    idle: int = 0,
) -> Open:
    """Something per second: each sample is `count` of it by `clients`, beside `idle` connections."""
    is_whole = not spec.class_name.startswith("PreFork")  # its workers live on, and are not in the account

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], Sample]]:
        units = scale(count)
        with _served(spec) as (address, pid), load.idle(address, scale(idle, least=0)):
            generator(address, units, clients)  # warms the server up
            yield lambda: _sampled(lambda: generator(address, units, clients), units, pid, is_whole=is_whole)

    return opened


def transfer(generator: Callable[[load.Address, int], float], megabytes: int, spec: Spec) -> Open:
    """Bytes per second."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], Sample]]:
        size = scale(megabytes, least=4) << 20
        with _served(spec) as (address, pid):
            generator(address, 1 << 20)
            yield lambda: _sampled(lambda: generator(address, size), size, pid)

    return opened


def inside(what: str, module: str, class_name: str, cycles: int) -> Open:
    """Seconds: each sample is the median of some cycles in a process of their own."""

    def sample(scale: Scale) -> Sample:
        count = scale(cycles, least=1)
        output = _output_of(*python("-m", "tests.bench._inside", what, module, class_name, str(count)))
        return Sample(median(json.loads(output)))

    return lambda scale: contextlib.nullcontext(lambda: sample(scale))


def importing(module: str) -> Open:
    """Seconds to import the module in a fresh interpreter that has imported nothing else."""
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    folder = str(Path(spec.origin or "").parents[1 if spec.submodule_search_locations else 0])
    code = (
        f"import sys; sys.path.insert(0, {folder!r}); from time import perf_counter, process_time; "
        f"started = perf_counter(), process_time(); import {module}; "
        "print(perf_counter() - started[0], process_time() - started[1])"
    )

    def sample() -> Sample:
        value, cpu = map(float, _output_of(sys.executable, "-I", "-S", "-c", code).split())
        return Sample(value, cpu)

    return lambda scale: contextlib.nullcontext(sample)

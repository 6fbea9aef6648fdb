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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from tests.bench import _load as load

__all__ = ("Failed", "Open", "Scale", "Spec", "importing", "inside", "rate", "transfer")

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


#: Opens one side; the function that it gives takes one sample.
Open = Callable[[Scale], AbstractContextManager[Callable[[], float]]]


def _python(*arguments: str) -> list[str]:
    # Warnings off: from 3.12 forking servers warn that they fork beside other threads, which here they are meant to.
    return [sys.executable, "-W", "ignore", *arguments]


@contextlib.contextmanager
def _served(spec: Spec) -> Iterator[load.Address]:
    """A server process; gives its address, and ends it with all its children."""
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            _python("-m", "tests.bench._server", spec.as_json()),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert child.stdout is not None
        try:
            line = child.stdout.readline()  # bounded by the child's own lifetime
            if not line:
                raise Failed("the server process ended before it listened")
            host, port = json.loads(line)[:2]
            yield host, port
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


def rate(
    generator: Callable[[load.Address, int, int], float],
    count: int,
    clients: int,
    spec: Spec,
    *,
    idle: int = 0,
) -> Open:
    """Something per second: each sample is `count` of it by `clients`, beside `idle` connections."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], float]]:
        with _served(spec) as address, load.idle(address, scale(idle, least=0)):
            generator(address, scale(count), clients)  # warms the server up
            yield lambda: generator(address, scale(count), clients)

    return opened


def transfer(generator: Callable[[load.Address, int], float], megabytes: int, spec: Spec) -> Open:
    """Bytes per second."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], float]]:
        with _served(spec) as address:
            generator(address, 1 << 20)
            yield lambda: generator(address, scale(megabytes, least=4) << 20)

    return opened


def inside(what: str, module: str, class_name: str, cycles: int) -> Open:
    """Seconds: each sample is the median of some cycles in a process of their own."""

    def sample(scale: Scale) -> float:
        count = scale(cycles, least=1)
        output = _output_of(*_python("-m", "tests.bench._inside", what, module, class_name, str(count)))
        return float(median(json.loads(output)))

    return lambda scale: contextlib.nullcontext(lambda: sample(scale))


def importing(module: str) -> Open:
    """Seconds to import the module in a fresh interpreter that has imported nothing else."""
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    folder = str(Path(spec.origin or "").parents[1 if spec.submodule_search_locations else 0])
    code = (
        f"import sys; sys.path.insert(0, {folder!r}); from time import perf_counter; "
        f"started = perf_counter(); import {module}; print(perf_counter() - started)"
    )
    return lambda scale: contextlib.nullcontext(
        lambda: float(_output_of(sys.executable, "-I", "-S", "-c", code))
    )

"""What a swarm costs, beside slowhttptest (C++), against the same sink in the same run: ``python -m tests.bench.swarm``.

The processor time of a process is what the kernel's scheduler has counted, in nanoseconds, between two moments at which all connections are
open; so it is disturbed little by whatever else goes on. Both tools send a little on each connection once a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from servertest.clients.behaviours import SlowWriter
from servertest.swarm import Result, profile, result_of, swarm
from servertest.swarm._job import Job
from servertest.swarm._local import package_root
from tests.swarm._servers import sink

__all__ = ("Cost", "measure_ours", "measure_slowhttptest")

DRIP = SlowWriter(b"x" * 1000, bytes_per_second=1)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one tool needed.

    Attributes:
        connected: Seconds until all were connected.
        cpu: Seconds of processor time for a second of one connection.
        memory: Bytes of resident memory for one connection.
        late: The worst delay behind the timetable in seconds, if it is known.
        sent: The fewest and the most bytes that a client has sent, if that is known.
    """

    connected: float
    cpu: float
    memory: float
    late: float | None = None
    sent: tuple[int, int] | None = None


@dataclass(slots=True)
class Mark:
    """How a process stood at a moment."""

    at: float
    cpu: float
    memory: int

    @classmethod
    def of(cls, pid: int) -> Mark:
        cpu = sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(time.monotonic(), cpu / 1e9, pages * os.sysconf("SC_PAGE_SIZE"))


def per_connection(first: Mark, last: Mark, clients: int) -> float:
    return (last.cpu - first.cpu) / (last.at - first.at) / clients


@contextlib.contextmanager
def worker(job: Job) -> Iterator[tuple[int, Iterator[dict[str, Any]]]]:
    """The child process of the local engine, as it is; gives its number and what it says."""
    child = subprocess.Popen(
        [sys.executable, "-m", "servertest.swarm._worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": package_root()},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(job.as_dict()).encode() + b"\n")
        child.stdin.flush()
        yield child.pid, map(json.loads, child.stdout)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def measure_ours(clients: int, seconds: float) -> Cost:
    """The local engine."""
    with sink() as address:
        small = Job(profile(DRIP, clients=1, duration=0.5), address)
        with worker(small) as (pid, said):
            base = next(Mark.of(pid) for report in said if report.get("begun"))
        job = Job(profile(DRIP, clients=clients, duration=seconds + 2), address)
        marks = []
        with worker(job) as (pid, said):
            for report in said:
                if report["kind"] == "result":
                    break
                if report.get("begun"):
                    marks.append(Mark.of(pid))
    result = result_of(job, "local", [report])
    return Cost(
        max(each for each in result.columns["connected"] if each is not None),
        per_connection(marks[1], marks[-1], clients),
        (marks[-1].memory - base.memory) / clients,
        result.percentiles("late", (100,))[100],
        (min(result.columns["sent"]), max(result.columns["sent"])),
    )


def measure_slowhttptest(clients: int, seconds: float) -> Cost:
    """slowhttptest, slow headers, every second, with the shortest headers that it has."""
    with sink() as address, tempfile.TemporaryDirectory() as directory:
        words = ["-H", "-c", str(clients), "-r", "100000", "-i", "1", "-x", "1", "-p", "3", "-v", "0"]
        words += ["-l", str(int(seconds + 40)), "-u", f"http://{address[0]}:{address[1]}/"]
        begun = time.monotonic()
        child = subprocess.Popen(
            ["slowhttptest", *words], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            base = Mark.of(child.pid)
            _wait(child, lambda: _descriptors(child.pid) >= clients)
            connected = time.monotonic() - begun
            _wait(child, lambda: time.monotonic() - begun >= connected + 1)
            first = Mark.of(child.pid)
            _wait(child, lambda: time.monotonic() - first.at >= seconds)
            last = Mark.of(child.pid)
        finally:
            child.kill()
            child.wait()
    return Cost(connected, per_connection(first, last, clients), (last.memory - base.memory) / clients)


def measure_asyncio(clients: int, seconds: float) -> Cost:
    """The same drip with asyncio's protocols and timers, in a process of its own as ours."""
    with sink() as address:
        with _dripping(address, 1, 0.5) as (child, said):
            next(said)
            base = Mark.of(child.pid)
        with _dripping(address, clients, seconds + 1) as (child, said):
            connected = next(said)["connected"]
            first = Mark.of(child.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
            last = Mark.of(child.pid)
            end = next(said)
    return Cost(
        connected,
        per_connection(first, last, clients),
        (last.memory - base.memory) / clients,
        end["late"],
        tuple(end["sent"]),
    )


@contextlib.contextmanager
def _dripping(
    address: tuple[str, int], clients: int, seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[dict[str, Any]]]]:
    words = [*map(str, address), str(clients), str(seconds)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.asyncio_drip", *words],
        stdout=subprocess.PIPE,
        cwd=package_root(),
    )
    assert child.stdout is not None
    try:
        yield child, map(json.loads, child.stdout)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _wait(child: subprocess.Popen[bytes], done: Any) -> None:
    """Until it is so, looking often: the process itself tells nothing."""
    until = time.monotonic() + 30
    while not done():
        if time.monotonic() > until or child.poll() is not None:
            raise RuntimeError("slowhttptest does not do what it should")
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.02)


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def measure_engine(engine: Any, clients: int, seconds: float, **options: Any) -> Result:
    with sink() as address:
        with swarm(address, DRIP, clients=clients, duration=seconds, engine=engine, options=options) as crowd:
            pass
        return crowd.result


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="that each measurement takes")
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--engines", action="store_true", help="let execnet and Locust carry them too")
    options = parser.parse_args()
    have_other = shutil.which("slowhttptest") is not None
    ours, others, plain = [], [], []
    for _ in range(options.rounds):
        ours.append(measure_ours(options.clients, options.seconds))
        plain.append(measure_asyncio(options.clients, options.seconds))
        if have_other:
            others.append(measure_slowhttptest(options.clients, options.seconds))
    title = f"{options.clients:,} clients, a little each second"
    _print(title, ours, others)
    _print(f"{title}, with asyncio's protocols", plain, others)
    if not have_other:
        print("slowhttptest is not installed (Debian: slowhttptest): no ratios")
    big = [measure_ours(2 * options.clients, options.seconds)]
    _print(f"{2 * options.clients:,} clients", big, [])
    if options.engines:
        for engine, settings in (("execnet", {"gateways": ["popen", "popen"]}), ("locust", {"workers": 2})):
            result = measure_engine(engine, 2 * options.clients, options.seconds + 5, **settings)
            late = result.percentiles("late", (99, 100))
            print(
                f"{engine}, two processes: {result.sentence}; late 99 %: {late[99] * 1000:.0f} ms, most {late[100] * 1000:.0f} ms"
            )
    return 0


def _print(title: str, ours: list[Cost], others: list[Cost]) -> None:
    print(title)
    for name, unit, factor in (("connected", "s", 1), ("cpu", "us", 1e6)):
        mine = median(getattr(cost, name) for cost in ours) * factor
        line = f"  {name:<10} {mine:10.2f} {unit}"
        if others:
            other = median(getattr(cost, name) for cost in others) * factor
            ratio = median(
                getattr(one, name) / getattr(two, name) for one, two in zip(ours, others, strict=True)
            )
            line += f"   slowhttptest {other:10.2f} {unit}   ratio {ratio:.2f}"
        print(line)
    print(f"  memory     {median(cost.memory for cost in ours):10.0f} B for a connection")
    print(f"  late       {max(cost.late or 0 for cost in ours) * 1000:10.2f} ms (the worst of all)")
    print(f"  sent       {ours[-1].sent} bytes by a client, fewest and most")


if __name__ == "__main__":
    sys.exit(main())

"""The same seed, the same history: to the byte, in another process, with other hashes, with the processor busy."""

import gc
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from servertest.sim import NotDeterministic, Simulation, check_deterministic
from servertest.transcript import dump_wire
from tests.sim._chat import chat, options

ROOT = Path(__file__).parents[2]


def start(seeds: int, hash_seed: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sim._chat", str(seeds)],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def compare(seeds: int) -> None:
    processes = [start(seeds, hash_seed) for hash_seed in (0, 77)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    assert outputs[0] == outputs[1] != ""


def test_two_processes_with_other_hashes_tell_the_same() -> None:
    compare(10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_seeds_in_two_processes_tell_the_same() -> None:
    compare(1000)


def test_transcripts_are_the_same_to_the_byte_and_differ_by_seed() -> None:
    def transcript(seed: int) -> str:
        with Simulation(seed, **options()) as net:
            chat(net)
        return dump_wire(net.transcript.events)

    assert transcript(1) == transcript(1)
    assert transcript(1) != transcript(2)


def test_a_scene_is_checked() -> None:
    check_deterministic(chat, range(5), **options())


def test_the_first_line_that_differs_is_shown() -> None:
    runs: list[int] = []

    def drifts(net: Simulation) -> None:
        runs.append(1)
        one, other = socket.socketpair()
        with one, other, socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(b"x" * len(runs))

    with pytest.raises(NotDeterministic) as caught:
        check_deterministic(drifts, [3])
    assert "- " in str(caught.value)
    assert "sends 1 on 1" in str(caught.value)
    assert "sends 2 on 1" in str(caught.value)


def test_another_outcome_is_a_difference_too() -> None:
    runs: list[int] = []

    def differs(net: Simulation) -> None:
        runs.append(1)
        if len(runs) > 1:
            raise LookupError

    with pytest.raises(NotDeterministic, match="LookupError"):
        check_deterministic(differs, [1])


def test_garbage_does_not_decide() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self
            self.sock = socket.socket()

        def __del__(self) -> None:
            self.sock.close()

    def scene(net: Simulation) -> None:
        for _ in range(200):
            Cycle()
            time.sleep(0.001)

    enabled = gc.get_threshold()
    try:
        gc.set_threshold(1)
        check_deterministic(scene, range(3))
    finally:
        gc.set_threshold(*enabled)
    gc.collect()


def test_faults_decide_the_same_each_time() -> None:
    def decisions() -> Any:
        with Simulation(5, **options()) as net:
            chat(net)
        return net.decisions

    first = decisions()
    assert first
    assert first == decisions()

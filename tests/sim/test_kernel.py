"""Turns, time, and what cannot go on."""

import concurrent.futures
import contextlib
import os
import queue
import random
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import uuid
import warnings
from typing import Any

import pytest

from servertest import servers
from servertest._support import UsageError
from servertest.sim import CannotSimulate, Deadlock, Livelock, Simulation, SimulationError, Stalled, _kernel
from tests._threads import new_threads
from tests.sim.conftest import Upper


def test_time_passes_only_when_everybody_waits(net: Simulation) -> None:
    begun = time.monotonic(), time.time(), time.perf_counter()
    time.sleep(3600)
    assert net.now == pytest.approx(3600)
    for clock, before in zip((time.monotonic, time.time, time.perf_counter), begun, strict=True):
        assert clock() - before >= 3600
    assert time.localtime().tm_year == time.gmtime().tm_year == 2030
    assert time.strftime("%Y", time.gmtime()) == "2030"


def test_the_real_clock_is_back_afterwards() -> None:
    names = ["sleep", "monotonic", "time"]
    before = [getattr(time, name) for name in names], threading.Lock, socket.socket.__new__, select.poll
    with Simulation():
        assert time.sleep is not before[0][0]
    assert before[0] == [getattr(time, name) for name in names]
    assert threading.Lock is before[1]
    assert select.poll is before[3]
    with socket.socket() as sock:
        assert sock.fileno() < 1 << 20
        assert type(sock) is socket.socket


def test_what_threading_and_queue_offer(net: Simulation) -> None:
    numbers: queue.Queue[int] = queue.Queue(2)
    last: queue.SimpleQueue[str] = queue.SimpleQueue()
    done, barrier = threading.Event(), threading.Barrier(2)

    def produce() -> None:
        for number in range(5):
            numbers.put(number)
            time.sleep(1)
        done.set()
        last.put("end")
        barrier.wait()

    thread = threading.Thread(target=produce)
    thread.start()
    assert [numbers.get(timeout=5) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert done.wait(10)
    barrier.wait()
    assert last.get(timeout=1) == "end"
    thread.join()
    assert not thread.is_alive()
    with pytest.raises(queue.Empty):
        numbers.get(timeout=7)
    timer = threading.Timer(100, done.clear)
    timer.start()
    timer.join()
    assert not done.is_set()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda number: number * 2, range(10))) == [number * 2 for number in range(10)]
    assert net.now == pytest.approx(112)


def test_locks_know_who_has_them(net: Simulation) -> None:
    lock, reentrant = threading.Lock(), threading.RLock()
    with lock:
        assert lock.locked()
        assert not lock.acquire(blocking=False)
        assert not lock.acquire(timeout=2)
    with pytest.raises(RuntimeError):
        lock.release()
    with reentrant, reentrant:
        assert not net.spawn(lambda: reentrant.acquire(timeout=1)).result()
        with pytest.raises(RuntimeError):
            net.spawn(reentrant.release).result()
    with pytest.raises(ValueError):
        lock.acquire(blocking=False, timeout=1)
    assert isinstance(lock, type(threading.Lock()))
    assert net.now == pytest.approx(3)


def test_names_identities_and_random_numbers_are_the_same_each_time() -> None:
    def look() -> Any:
        seen: list[Any] = []

        def note() -> None:
            seen.append((threading.current_thread().name, threading.get_ident(), random.random()))

        with Simulation(3) as net:
            threads = [threading.Thread(target=note) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seen.append((str(uuid.uuid4()), os.urandom(4)))
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                seen.append((sock.fileno(), sock.getsockname()))
            assert net.now == 0
        return seen

    state = random.getstate()
    assert look() == look()
    assert random.getstate() == state


def test_a_deadlock_is_reported_with_who_waits_for_what() -> None:
    def scene(net: Simulation) -> None:
        first, second = threading.Lock(), threading.Lock()

        def one() -> None:
            with first:
                time.sleep(1)
                with second:
                    pass

        def two() -> None:
            with second:
                time.sleep(1)
                with first:
                    pass

        net.run_all([one, two])

    with pytest.raises(Deadlock) as caught, Simulation(1) as net:
        scene(net)
    table = str(caught.value)
    assert "Thread-1 (_run): waits for a lock that Thread-2 (_run) holds" in table
    assert "test_kernel.py" in table


@pytest.mark.parametrize("kind", [socketserver.ThreadingTCPServer, servers.ThreadingTCPServer])
def test_two_that_wait_for_each_other_are_reported_although_a_loop_looks_around(kind: Any) -> None:
    with pytest.raises(Deadlock, match="waits for data on connection 1"), Simulation(1) as net:
        with socket.create_connection(net.serve(Upper, kind=kind).address) as client:
            client.recv(1)


def test_who_asks_without_end_is_reported() -> None:
    with pytest.raises(Livelock, match="asks again and again"), Simulation(1):
        one, other = socket.socketpair()
        other.close()
        while True:
            one.recv(1)  # the end, again and again


def test_who_polls_without_end_is_reported() -> None:
    with pytest.raises(Livelock), Simulation(1):
        one, _other = socket.socketpair()
        one.setblocking(False)
        while True:
            try:
                one.recv(1)
            except BlockingIOError:
                pass


def test_time_passes_for_those_who_look_at_the_clock(net: Simulation) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        pass
    assert 5 <= net.now < 6


def test_others_go_on_while_somebody_asks_again_and_again(net: Simulation) -> None:
    flag: list[int] = []
    lock = threading.Lock()
    net.at(3, lambda: flag.append(1))
    while True:
        with lock:
            if flag:
                break
    assert net.now == pytest.approx(3)


def test_a_wait_that_a_loop_of_its_own_makes_is_no_deadlock(net: Simulation) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    for _ in range(1000):
        assert select.select([listener], [], [], 60) == ([], [], [])
    listener.close()
    assert net.now == pytest.approx(60_000)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda: os.fork(), id="fork"),
        pytest.param(lambda: subprocess.run([sys.executable], check=False), id="subprocess"),
        pytest.param(lambda: os.system("true"), id="system"),
        pytest.param(lambda: socket.socket(fileno=0), id="descriptor"),
        pytest.param(lambda: select.select([0], [], [], 1), id="select"),
    ],
)
def test_what_exists_only_outside_is_refused(act: Any) -> None:
    with pytest.raises(CannotSimulate, match="cannot be simulated"), Simulation(1):
        act()


def test_a_real_socket_is_refused() -> None:
    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(CannotSimulate, match="outside of the simulation"), Simulation(1):
            one.recv(1)
        with pytest.raises(CannotSimulate), Simulation(1):
            try:
                one.sendall(b"x")
            except OSError:
                pass  # whoever forgives it: the test gets to know
        other.sendall(b"x")
        assert one.recv(1) == b"x"


def test_a_server_that_forks_is_refused() -> None:
    with pytest.raises((CannotSimulate, ConnectionError)) as caught, Simulation(1) as net:
        with net.serve(Upper, kind=servers.ForkingTCPServer).connect() as client:
            client.send(b"x\n")
            client.readline()
    assert "fork" in "".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_names_of_the_internet_are_unknown() -> None:
    with Simulation(1), pytest.raises(socket.gaierror):
        socket.create_connection(("example.org", 80))


def test_addresses_that_nobody_has_cannot_be_reached() -> None:
    with Simulation(1), pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("10.99.99.99", 80))


def test_there_is_one_simulation_at_a_time(net: Simulation) -> None:
    with pytest.raises(UsageError, match="one at a time"):
        Simulation().__enter__()


def test_a_simulation_ends_threads_that_wait() -> None:
    ended = []

    def wait() -> None:
        try:
            threading.Event().wait()
        finally:
            ended.append(1)

    before = threading.enumerate()
    with Simulation(1) as net:
        for _ in range(5):
            threading.Thread(target=wait).start()
        net.settle()
    assert len(ended) == 5
    assert not new_threads(before)


def test_a_thread_that_does_not_want_to_end_is_left_behind() -> None:
    def insist() -> None:
        while True:
            try:
                time.sleep(1)
            except BaseException:  # noqa: BLE001
                pass

    with Simulation(1):
        threading.Thread(target=insist, daemon=True).start()
        time.sleep(10)
    leftover = [thread for thread in threading.enumerate() if "insist" in thread.name]
    assert leftover
    for thread in leftover:
        threading._active.pop(thread.ident)  # type: ignore[attr-defined]


_lock_from_before = threading.Lock()


class Guarded(socketserver.StreamRequestHandler):
    event = threading.Event()
    mutex = threading.RLock()

    def handle(self) -> None:
        line = self.rfile.readline()
        with _lock_from_before, self.mutex:
            time.sleep(1)
            self.wfile.write(line)
        self.event.set()


def test_locks_from_before_are_exchanged() -> None:
    before = _lock_from_before, Guarded.mutex
    with Simulation(1) as net:
        server = net.serve(Guarded)

        def ask() -> bytes:
            with server.connect() as client:
                client.send(b"x\n")
                return bytes(client.readline())

        assert net.run_all([ask] * 3) == [b"x\n"] * 3
        assert net.now == pytest.approx(3)
        assert Guarded.event.wait(1)
    assert (_lock_from_before, Guarded.mutex) == before
    with _lock_from_before:
        pass


def test_locks_of_modules_that_are_loaded_inside_are_real_locks_afterwards() -> None:
    with Simulation(1):
        lock = threading.Lock()
        condition = threading.Condition()
    assert lock.acquire(timeout=1)
    assert not lock.acquire(timeout=0.01)
    thread = threading.Timer(0.05, lock.release)
    thread.start()
    assert lock.acquire(timeout=5)
    lock.release()
    thread.join()
    with condition:
        assert not condition.wait(0.01)


def test_who_computes_without_end_is_reported() -> None:
    with pytest.raises(Stalled), Simulation(1, patience=0.4):
        number = 0
        while True:
            number += 1


def test_a_thread_that_computes_without_end_is_reported() -> None:
    stop: list[int] = []

    def compute() -> None:
        while not stop:
            pass

    try:
        with pytest.raises(SimulationError, match="has not come back"), Simulation(1, patience=0.4) as net:
            net.spawn(compute).result()
    finally:
        stop.append(1)


def test_an_error_in_the_body_ends_everything_at_once() -> None:
    before = threading.enumerate()
    with pytest.raises(ZeroDivisionError), Simulation(1) as net:
        server = net.serve(Upper)
        client = server.connect()
        client.send(b"x")
        _ = 1 / 0
    assert not new_threads(before)


def test_entering_and_leaving_is_quick() -> None:
    with Simulation(1):
        pass
    begun = time.perf_counter()
    for _ in range(20):
        with Simulation(1):
            pass
    assert (time.perf_counter() - begun) / 20 < 0.1


def test_things_can_be_done_at_a_time(net: Simulation) -> None:
    done: list[float] = []
    net.at(5, lambda: done.append(net.now))
    net.at(2, lambda: done.append(net.now))
    net.sleep(10)
    assert done == [pytest.approx(2), pytest.approx(5)]


def test_an_error_in_something_spawned_is_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), Simulation(1) as net:
        net.spawn(lambda: 1 / 0)
        net.sleep(1)


def test_who_sleeps_without_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servertest.sim._kernel._MERE_WAITS", 1000)
    with pytest.raises(Livelock, match="time passes"), Simulation(1) as net:
        net.spawn(lambda: time.sleep(1e9))
        while True:
            time.sleep(1)


class Alarm(Exception):
    pass


class LateSignal:
    """A baton: as soon as it has come, a signal handler raises."""

    def __init__(self, baton: Any) -> None:
        self._baton = baton
        self._rings = True
        self.release = baton.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        came = bool(self._baton.acquire(blocking, timeout))
        if came and self._rings:
            self._rings = False
            raise Alarm
        return came


def test_a_signal_handler_that_raises_when_the_baton_has_just_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernel, "_SEIZE", 0.1)
    threads = threading.enumerate()
    with pytest.raises(Alarm), Simulation(1) as net:
        late: Any = LateSignal(net.kernel.main.baton)
        net.kernel.main.baton = late
        net.spawn(time.sleep, 5)
        time.sleep(1)
    assert not new_threads(threads)
    with Simulation(1) as net:
        assert net.spawn(time.monotonic).result() > 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an alarm")
def test_a_signal_handler_that_raises_ends_the_simulation() -> None:
    def ring(number: int, frame: Any) -> None:
        raise Alarm

    def sleep() -> None:
        while True:
            time.sleep(1)

    before = signal.signal(signal.SIGALRM, ring)
    threads = threading.enumerate()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarm), Simulation(1) as net:
            net.spawn(sleep)
            net.spawn(sleep).result()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not new_threads(threads)


def test_a_lock_from_outside_in_the_test_itself_is_no_hang() -> None:
    lock = threading.Lock()
    lock.acquire()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stalled, match=r"test has not come back for 0\.2 s"), Simulation(1, patience=0.2):
        lock.acquire()
    assert signal.getsignal(signal.SIGINT) is before


def test_whoever_computes_for_long_is_found_wherever_it_is() -> None:
    stop: list[int] = []

    def compute() -> None:
        number = 1
        while not stop:
            number = number * 3 % 1_000_003
            number += 1
            number ^= 5

    try:
        with pytest.raises(Stalled, match="has not come back"), Simulation(1, patience=0.2) as net:
            net.spawn(compute)
            net.sleep(1)
    finally:
        stop.append(1)


def test_the_end_of_the_whole_process_is_refused() -> None:
    with pytest.raises(CannotSimulate, match=r"os\._exit\(\) cannot be simulated"), Simulation(1):
        with contextlib.suppress(OSError):
            os._exit(3)


def test_sockets_of_a_crashed_machine_are_not_complained_of() -> None:
    with warnings.catch_warnings(), Simulation(1) as net:
        warnings.simplefilter("error")
        net.host("db", boot=lambda: socket.create_server(("0.0.0.0", 99)).accept())
        net.settle()
        net.crash("db")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"link": 3}, "link: a Link"),
        ({"patience": -1}, "patience: a number of real seconds"),
        ({"preempt": "word"}, "preempt: 'io', 'line' or 'instruction'"),
        ({"preempt": "line"}, "needs to know the code"),
    ],
    ids=["link", "patience", "preempt", "watch"],
)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Simulation(1, **options)

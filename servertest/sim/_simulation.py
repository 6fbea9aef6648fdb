"""The simulation as tests see it."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .._support import UsageError
from ..clients import connect
from ..faults import plan as to_plan
from ..wire._faulty_keeper import Share, keeper
from ._active import active, participant
from ._adopting import Adopted
from ._history import EventLog
from ._hosts import VIRTUAL_PATHS
from ._kernel import Kernel
from ._network import Network
from ._patches import Patches
from ._route import Link
from ._serving import SimServer, make_server
from ._strategies import RandomStrategy, ReplayStrategy, Schedule

if TYPE_CHECKING:
    from .._support import Address
    from ..faults import Decision, Faults
    from ..transcript import Transcript
    from ._hosts import Host
    from ._strategies import Strategy

__all__ = ("Simulation", "Spawned", "simulate")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

T = TypeVar("T")


class Spawned:
    """Something that runs in a thread of its own.

    Args:
        function: What.
        arguments: Its arguments.
        name: The thread's.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], name: str | None) -> None:
        self._function = function
        self._arguments = arguments
        self._result: Any = None
        self.error: BaseException | None = None
        self.fetched = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result = self._function(*self._arguments)
        except Exception as error:  # noqa: BLE001 - for whoever asks
            self.error = error

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it; what it returned, or raise what it raised.

        Args:
            timeout: Virtual seconds; None for any time.

        Raises:
            TimeoutError: It was not done in time.
        """
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise TimeoutError(f"{self.thread.name} was not done within {timeout:g} s")
        self.fetched = True
        if self.error is not None:
            raise self.error
        return self._result


class Simulation:
    """A simulated network with virtual time, in which the calling thread takes part from ``with`` to its end.

    Args:
        seed: Decides everything that is left to chance: who goes on, what links do, what `random` gives.
        link: What the network is like.
        faults: Faults on each connection, as for the proxy.
        preempt: Where a thread may have to make way: at calls and locks ("io"), also at each line of the watched code ("line"), or
            between any two instructions of it ("instruction").
        watch: The code for the latter: functions, classes, modules.
        schedule: Replays one schedule instead of drawing it.
        patience: Real seconds after which a thread that does not come back is reported; 0 for never.

    Attributes:
        seed: The seed.
        servers: What was put up with `serve`.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        link: Link | None = None,
        faults: Faults = None,
        preempt: str = "io",
        watch: Iterable[Any] = (),
        schedule: Schedule | None = None,
        patience: float = 30.0,
    ) -> None:
        if preempt not in ("io", "line", "instruction"):
            raise UsageError(f"preempt: 'io', 'line' or 'instruction', not {preempt!r}")
        if link is not None and not isinstance(link, Link):
            raise UsageError(f"link: a Link, as in Link(latency=0.02), not {link!r}")
        if not patience >= 0:
            raise UsageError(
                f"patience: a number of real seconds from 0 up (0 for any time), not {patience!r}"
            )
        self.seed = seed
        self.preempt = preempt
        self.watch = tuple(watch)
        if preempt != "io" and not self.watch:
            raise UsageError(f"preempt={preempt!r} needs to know the code: watch=[MyHandler]")
        self.strategy: Strategy = RandomStrategy(seed) if schedule is None else ReplayStrategy(schedule)
        self.log = EventLog()
        self.kernel = Kernel(self.strategy, self.log, patience)
        self.network = Network(self.kernel, seed, link or Link(), faults)
        self.kernel.network = self.network
        self.servers: list[SimServer] = []
        self._spawned: list[Spawned] = []
        self._adopted = Adopted()
        self._patches = Patches(self.kernel, seed)
        self._points: Any = None
        self._paths = 0
        self._keys = 0
        self._collects = False
        self._boots: dict[str, Callable[[], object]] = {}

    # -- beginning and end

    def __enter__(self) -> Self:
        """The calling thread takes part from now on.

        Raises:
            UsageError: There is a simulation already.
        """
        if active.kernel is not None:
            raise UsageError("there is a simulation already: only one at a time in a process")
        points = None
        if self.preempt != "io":
            from ._preempting import Points

            points = Points(self.kernel, self.watch, self.preempt)
        # Finalisers would run at times that no seed decides.
        self._collects = gc.isenabled()
        gc.disable()
        keeper.elsewhere = _own_share(self.kernel)
        self._patches.install()
        active.kernel = self.kernel
        self.kernel.enter(self.network.local)
        from ..transcript import Transcript

        self.network.recorder.transcript = Transcript()
        self.adopt(*self.watch)
        if points is not None:
            points.install()
            self._points = points
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything: in good order after a good end, at once after an error.

        Raises:
            HandlerFailed: A handler raised, and nobody has taken that out of `SimServer.errors`.
            SimulationError: It could not end, or something was refused on the way.
        """
        problem: BaseException | None = None
        try:
            if value is None:
                self._end_well()
            else:
                self._add_notes(value)
        except BaseException as error:  # noqa: BLE001 - raised below
            problem = error
        finally:
            self._leave()
        if kind is None:
            problem = problem or self.kernel.failure
            if problem is not None:
                raise problem
            for server in self.servers:
                server.raise_errors()

    def _add_notes(self, error: BaseException) -> None:
        """What else went wrong may be why."""
        if self.kernel.failure is not None and self.kernel.failure is not error:
            error.add_note(f"in the simulation: {self.kernel.failure}")
        crossed = self.kernel.crossed_locks()
        if crossed:
            rows = "\n".join(f"  {task.row(self.kernel.now)}" for task in crossed)
            error.add_note(f"these threads wait for locks that they have from each other:\n{rows}")
        for server in self.servers:
            for other in server.errors[:3]:
                error.add_note(f"{server!r} had: {type(other).__name__}: {other}")

    def _end_well(self) -> None:
        for server in reversed(self.servers):
            server.stop()
        for spawned in self._spawned:
            if spawned.error is not None and not spawned.fetched:
                raise spawned.error

    def _leave(self) -> None:
        if self._points is not None:
            self._points.remove()
        try:
            self.kernel.leave()
        finally:
            active.kernel = None
            self._patches.remove()
            keeper.elsewhere = None
            self._adopted.give_back()
            if self._collects:
                gc.enable()

    # -- time and tasks

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.kernel.now / 1e9

    def sleep(self, seconds: float) -> None:
        """Let time pass, as `time.sleep` does here."""
        import time

        time.sleep(seconds)

    def settle(self) -> None:
        """Let everybody go on until all of them wait, without any time passing."""
        self._kernel().settle()

    def spawn(self, function: Callable[..., Any], *arguments: Any, name: str | None = None) -> Spawned:
        """Run something in a thread of its own. What it raises is raised by `result`, or else at the end."""
        spawned = Spawned(function, arguments, name)
        self._spawned.append(spawned)
        return spawned

    def run_all(self, functions: Iterable[Callable[[], T]]) -> list[T]:
        """Run all of these at once, each in a thread; their results, in order."""
        spawned = [self.spawn(function) for function in functions]
        return [each.result() for each in spawned]

    def at(self, seconds: float, function: Callable[[], object]) -> Spawned:
        """Do something when it is that time, in a thread of its own."""

        def wait_and_do() -> object:
            self.sleep(max(seconds - self.now, 0))
            return function()

        return self.spawn(wait_and_do)

    def adopt(self, *owners: Any) -> None:
        """Exchange the locks in these modules, classes and objects, which were made before the simulation, while it runs."""
        self._adopted.adopt(*owners)
        for owner in owners:
            module = sys.modules.get(getattr(owner, "__module__", None) or "")
            if module is not None:
                self._adopted.adopt(module)

    # -- servers and clients

    def serve(
        self,
        target: Any,
        *arguments: Any,
        kind: Any = None,
        address: Address | None = None,
        host: str | None = None,
        name: str | None = None,
    ) -> SimServer:
        """Put a server up, in a thread.

        Args:
            target: A handler class; or a server class, followed by its further arguments, such as the handler; or a server object.
            arguments: Of the server class, after the address.
            kind: For a handler class: the name of a server class of `servertest.servers`, "ThreadingTCPServer" if nothing is said, with
                "+tls" at its end for TLS; or any server class.
            address: Where; by default a free port, or a path.
            host: On which machine.
            name: The name of its thread.
        """
        if (
            isinstance(kind, type)
            and not arguments
            and isinstance(target, type)
            and hasattr(target, "serve_forever")
        ):
            raise UsageError("either a server class with its handler, or a handler with a kind")
        self.adopt(*[each for each in (target, *arguments, kind) if isinstance(each, type)])
        with self.on(host):
            server, context = make_server(self, target, arguments, kind, address)
            self.adopt(type(server), server)
            made = SimServer(self, server, name or f"server {len(self.servers) + 1}", context)
        self.servers.append(made)
        return made

    def connect(self, server: SimServer | Address, **options: Any) -> Any:
        """A client of this library that is connected to a server or an address."""
        if isinstance(server, SimServer):
            return server.connect(**options)
        return connect(server, **options)

    def path(self) -> str:
        """A path for a Unix socket that exists only in the simulation."""
        self._paths += 1
        return f"{VIRTUAL_PATHS}{self._paths}"

    # -- the network

    def host(self, name: str, address: str | None = None, boot: Callable[[], object] | None = None) -> Host:
        """A further machine, beside "localhost".

        Args:
            name: Its name, which is looked up as any.
            address: Its IPv4 address; 10.0.0.n by default.
            boot: What runs on it, now and after each restart.
        """
        host = self.network.add_host(name, address or f"10.0.0.{len(self.network.hosts)}")
        if boot is not None:
            self._boots[name] = boot
            self._boot(name)
        return host

    def _boot(self, name: str) -> None:
        with self.on(name):
            self.spawn(self._boots[name], name=name)

    def _host(self, name: str) -> Host:
        host = self.network.hosts.get(name)
        if host is None:
            raise UsageError(f"there is no host {name!r}; there are {', '.join(self.network.hosts)}")
        return host

    @contextlib.contextmanager
    def on(self, name: str | None) -> Iterator[None]:
        """Let the calling thread be on another machine, with all that it starts there."""
        task = self._kernel().current
        before = task.host
        if name is not None:
            task.host = self._host(name)
        try:
            yield
        finally:
            task.host = before

    def link(self, first: str, second: str, link: Link | None = None, **fields: Any) -> None:
        """What the network between two machines is like: a `Link`, or its fields."""
        self._host(first), self._host(second)
        self.network.set_link(first, second, link or Link(**fields))

    @contextlib.contextmanager
    def partition(self, first: str, second: str) -> Iterator[None]:
        """Nothing comes through between two machines: datagrams are lost, streams go on where they were afterwards."""
        with self._barrier(first, second, "partition"):
            yield

    @contextlib.contextmanager
    def held(self, first: str, second: str) -> Iterator[None]:
        """Everything between two machines waits until the end of the block."""
        with self._barrier(first, second, "hold"):
            yield

    @contextlib.contextmanager
    def _barrier(self, first: str, second: str, how: str) -> Iterator[None]:
        hosts = self._host(first), self._host(second)
        key = object()
        routes = [self.network.route(*hosts), self.network.route(*reversed(hosts))]
        for route in routes:
            route.close(key, how)
        self.network.recorder.log(f"{how} of {first} and {second}")
        try:
            yield
        finally:
            self.network.recorder.log(f"{how} of {first} and {second} ends")
            for route in routes:
                route.open(key)

    @contextlib.contextmanager
    def faults(self, faults: Faults) -> Iterator[None]:
        """Further faults, on what is there and on what comes, for as long as the block runs."""
        self._keys += 1
        key = f"block {self._keys}"
        self.network.change_faults(key, to_plan(faults))
        try:
            yield
        finally:
            self.network.change_faults(key, None)

    def reset(self, client: Any) -> None:
        """Cut a connection off, as a machine on its way would: RST to both ends.

        Args:
            client: One of its sockets, or a client of this library.
        """
        end = getattr(getattr(client, "sock", client), "_sim_end", None)
        core = getattr(client, "_core", None)
        if end is None and core is not None:
            end = getattr(core.sock, "_sim_end", None)
        if end is None or getattr(end, "peer", None) is None:
            raise UsageError(f"{client!r} is no connection of this simulation")
        peer = end.peer
        self.network.recorder.log(f"connection {end.number} is cut off")
        end.on_reset()
        peer.on_reset()

    def crash(self, name: str) -> None:
        """A machine is gone at once, without a word: its threads, its sockets, what it had sent and not delivered stays on its way."""
        host = self._host(name)
        if host is self.network.local or host is self._kernel().current.host:
            raise UsageError(
                "the machine that the test runs on cannot crash: put the server on a host of its own"
            )
        self.network.recorder.log(f"{name} crashes")
        for server in self.servers:
            server.host_crashed(host)
        self.network.crash(host)
        self.settle()

    def restart(self, name: str) -> None:
        """A machine that has crashed is there again: connections from before are unknown to it, what it boots starts again."""
        host = self._host(name)
        if host.up:
            raise UsageError(f"{name} has not crashed")
        host.up = True
        self.network.recorder.log(f"{name} starts again")
        if name in self._boots:
            self._boot(name)

    # -- what happened

    @property
    def transcript(self) -> Transcript:
        """What passed, as the servers saw it; times are virtual."""
        transcript = self.network.recorder.transcript
        if transcript is None:
            raise UsageError("the simulation has not begun")
        return transcript

    @property
    def history(self) -> list[str]:
        """Line by line what everybody did: the last 100,000 lines."""
        return self.log.lines

    @property
    def digest(self) -> str:
        """A number for the whole history: the same seed gives the same."""
        return self.log.digest

    @property
    def decisions(self) -> list[Decision]:
        """What faults have decided."""
        return list(self.network.recorder.decisions)

    @property
    def schedule(self) -> Schedule:
        """Where another thread went on than in the plain order: give it to ``schedule=`` to replay it."""
        return dict(self.strategy.taken)

    def table(self) -> str:
        """Who waits for what, now."""
        return self.kernel.table("the threads of the simulation")

    def _kernel(self) -> Kernel:
        kernel = participant()
        if kernel is not self.kernel or kernel is None:
            raise UsageError("this is for threads of the simulation, between its beginning and its end")
        return kernel


def _own_share(kernel: Kernel) -> Callable[[], Share | None]:
    """Faulty sockets share a relay, which is a thread: those of the simulation have their own."""
    made: list[Share] = []

    def share() -> Share | None:
        if participant() is not kernel:
            return None
        if not made:
            made.append(Share())
        return made[0]

    return share


def simulate(seed: int | str = 0, **options: Any) -> Simulation:
    """A simulation, to be entered with ``with``; keywords as for `Simulation`."""
    return Simulation(seed, **options)

"""The stage of contracts in a simulation: planned conversations with a handler, and whole scenes with servers, in virtual time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from ..contract import Delivery, Family, Plan, Record
from ..contract._plan import Ended, Failed
from ..contract._rehearsal import Interruption, Stage, failed, threads_report
from ..contract._steps import Stepper
from ..launch import HandlerTarget
from ..launch._process_pickle import load_plan
from ._errors import CannotSimulate, Livelock, SimulationError
from ._planned import PlannedClient
from ._simulation import Simulation

__all__ = ("REFUSED", "Scene", "SimStage", "Staged")

#: Virtual seconds after which somebody who handles a datagram, and does not wait for input, does not come back.
_PATIENCE = 3600.0
#: Virtual seconds that an inner conversation gets before it is said to be held up.
_TURN = 0.04


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be done with servers in a simulation of its own: a method of a contract, pickled with all that it needs.

    Attributes:
        data: The contract without its subject, the method's name, and the arguments.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class Staged:
    """What came of a scene.

    Attributes:
        value: What the method has given; None if it could not be simulated.
        outcome: "returned"; "hung" or "died" are said by a `Record`.
        refused: Why it could not be simulated.
    """

    value: Any = None
    outcome: str = "returned"
    refused: str = ""
    notes: tuple[str, ...] = ()


class SimStage(Stage):
    """A handler on a simulated network, for one conversation after the other.

    Args:
        handler: A request handler class, or a target; scenes may do with any target.
        seed: The seed of each simulation.
    """

    def __init__(self, handler: Any, seed: int | str = 0) -> None:
        self._seed = seed
        self._whole = handler
        self._net: Simulation | None = None
        self._inside = ExitStack()
        self._between = ExitStack()
        if isinstance(handler, HandlerTarget) or callable(handler):
            super().__init__(handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._leave()

    def _enter(self) -> Simulation:
        if self._net is None:
            with ExitStack() as stack:
                stack.enter_context(threads_report(self._failures.append))
                net = stack.enter_context(_Quiet(self._seed))
                net.adopt(self._target.handler)
                self._inside = stack.pop_all()
            self._stack = ExitStack()
            self._net = net
        return self._net

    def _leave(self) -> None:
        if self._net is None:
            return
        self._between.close()
        self._net = None
        with contextlib.suppress(Exception):
            self._stack.close()
        for known in (self._servers, self._listeners, self._datagram_ends):
            known.clear()
        self._inside.close()

    # -- plans

    def play(self, plan: Any) -> Any:
        """Hold a conversation, or play a scene.

        Returns:
            What came of it; what cannot be simulated is among its notes.
        """
        if isinstance(plan, Scene):
            self._leave()
            return _play_scene(plan, self._whole, self._seed)
        net = self._enter()
        self._between.close()
        try:
            record = super().play(plan)
        except SimulationError as error:
            kind: Any = Record if isinstance(plan, Plan) else Delivery
            record = kind(outcome="hung", stacks=str(error))
        failure = net.kernel.failure
        if failure is not None:
            self._leave()  # what was refused, or has gone wrong, is nothing to go on with
        if isinstance(failure, CannotSimulate):
            record = replace(record, notes=(*record.notes, f"{REFUSED}{failure}"))
        if self._net is not None:
            # Whoever gets the record does something with it in the world outside.
            self._between.enter_context(net.kernel.outside())
        return record

    def _hold(self, plan: Plan, take: Callable[[Any], None] | None = None) -> Record:
        server = self._server("stream", plan.family)
        self._handler = None
        net = self._enter()
        near, far, address = self._pair(plan.family)
        client = PlannedClient(plan, near, far, net.kernel)
        if take is not None:
            take(client)
        # Nobody is slow here but who waits: long turns would only use up the time that the handler gives its client.
        interruption = Interruption(self, replace(plan, turn=min(plan.turn, _TURN)), client)
        stepper = self._stepper(plan, interruption)
        client.begin_early()
        ended: list[tuple[Ended, Failed | None]] = []

        def serve() -> None:
            try:
                ended.append(self._handle(server, far, address, stepper))
            finally:
                client.comes_back()

        thread = threading.Thread(target=serve, name="handler", daemon=True)
        thread.start()
        state = client.run()
        if state:
            how: tuple[Ended, Failed | None] = (_as_ended(state), None)
            stacks = net.table() if state == "hung" else ""
            times = client.elapsed, client.silence
            net.kernel.kill([task for task in net.kernel.tasks if task.owner is thread])
            net.settle()
        else:
            how, stacks = ended[0], ""
            times = client.elapsed, client.silence
            self._look_at_files()
        with contextlib.suppress(OSError):
            server.shutdown_request(far)
        client.finish()
        record = self._record(client, how, times, interruption, stepper)
        self._look_at_server(("stream", plan.family))
        return replace(record, stacks=stacks)

    def _pair(self, family: Family) -> tuple[socket.socket, socket.socket, Any]:
        """A connection: the client's end, the handler's, and the client's address."""
        if family == "unix":
            near, far = socket.socketpair()
            return near, far, ""
        listener = self._listener(family)
        near = socket.socket(listener.family)
        near.connect(listener.getsockname())
        far, address = listener.accept()
        return near, far, address

    def _handle(
        self, server: Any, sock: socket.socket, address: Any, stepper: Stepper | None
    ) -> tuple[Ended, Failed | None]:
        outcome, failure = super()._handle(server, sock, address, stepper)
        if failure is not None and failure.type_name.endswith(f".{Livelock.__name__}"):
            return "spinning", None
        return outcome, failure

    def _handle_datagram(self, server: Any, request: Any, address: Any) -> tuple[Ended, Failed | None]:
        ended: list[tuple[Ended, Failed | None]] = []

        def serve() -> None:
            try:
                server.finish_request(request, address)
                ended.append(("returned", None))
            except BaseException as error:  # noqa: BLE001 - whatever leaves a handler is what is looked for
                ended.append(("raised", failed(error)))

        thread = threading.Thread(target=serve, name="handler", daemon=True)
        thread.start()
        thread.join(_PATIENCE)
        net = self._enter()
        net.settle()  # threads of the handler's may have something to say
        if thread.is_alive():
            net.kernel.kill([task for task in net.kernel.tasks if task.owner is thread])
            return "hung", None
        return ended[0]


#: What a record notes that could not be simulated begins so.
REFUSED = "cannot be simulated: "


def _as_ended(state: str) -> Ended:
    return "silent" if state == "silent" else "hung"


class _Quiet(Simulation):
    """A simulation whose end complains of nothing: what there is to be said is in the records."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed, patience=0)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            super().__exit__(kind, value, traceback)


def _play_scene(scene: Scene, target: Any, seed: int | str) -> Staged:
    (contract, method, arguments), _ = load_plan(scene.data)
    contract = replace(contract, target=target)
    net = _Quiet(seed)
    with net:
        net.adopt(*[one for one in (getattr(target, "handler", None), getattr(target, "cls", None)) if one])
        try:
            value = getattr(contract, method)(*arguments)
        except CannotSimulate as error:
            return Staged(refused=str(error))
    failure = net.kernel.failure
    if isinstance(failure, CannotSimulate):
        return Staged(refused=str(failure))
    return Staged(value)

"""Contracts held in a simulation: the same checks, on simulated sockets and in virtual time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..contract import (
    Bench,
    Finding,
    Ground,
    NotSimulated,
    Outcome,
    Record,
    Result,
    Violation,
    describe_record,
)
from ..launch._process_pickle import dump_plan
from ._errors import SimulationError
from ._stage import REFUSED, Scene, SimStage, Staged

if TYPE_CHECKING:
    from ..contract._contract import Contract
    from ..launch import Kind

__all__ = ("Simulated", "rehearse")

#: Seconds of real time that a scene with servers may take.
_LIMIT = 30.0

_MEASURED = (
    "memory, processor time, threads and descriptors are those of a real process, which a simulation has not"
)


def rehearse(handler: Any, plan: Any, *, seed: int | str = 0) -> Any:
    """Hold one planned conversation with a request handler in a simulation, in this process.

    Args:
        handler: A request handler class, or what is called like one.
        plan: What the client does: see `servertest.contract.Plan`.
        seed: The seed of the simulation.

    Returns:
        What came of it: a `Record`, or a `Delivery` for datagrams.

    Raises:
        UsageError: There is a simulation already.
    """
    with SimStage(handler, seed) as stage:
        return stage.play(plan)


class Simulated(Ground):
    """A simulated network and virtual time, for `servertest.check` and contracts. What waits costs nothing.

    Args:
        seed: Decides everything that is left to chance.
    """

    name = "simulation"
    hosting: Mapping[str, Any] = MappingProxyType({"host": "thread", "options": {"leak_check": False}})
    module = "servertest.sim"

    def __init__(self, seed: int | str = 0) -> None:
        self.seed = seed

    def why_not(self, kind: Kind) -> str:
        """See `Ground`."""
        if kind.forks:
            return "it forks, and a child process cannot be simulated"
        if kind.host == "process":
            return "a process of its own cannot be simulated"
        return ""

    def bench(self, target: Any, *, rehearsed: bool) -> SimBench:
        """See `Ground`: the subject's process is always needed, for simulations run there."""
        return SimBench(target, self.seed)

    def held(self, bench: Any, contract: Contract, method: str, *arguments: Any) -> Any:
        """See `Ground`."""
        if method == "plainly":
            _, kind, scripts, _ = arguments
            arguments = (None, kind, scripts, self.hosting_of(contract.target))
        began = time.monotonic()
        staged = bench.stage(replace(contract, target=None, ground=_Within(self)), method, arguments)
        if isinstance(staged, Staged) and not staged.refused:
            # Inside, it has taken virtual seconds.
            return replace(staged.value, seconds=time.monotonic() - began)
        if method == "plainly":
            name = contract.target.name if arguments[1] is None else str(arguments[1])
            return _lost_outcome(name, staged)
        return _lost_result(contract, arguments, staged)

    def explained(self, error: Exception) -> str:
        """See `Ground`: that nobody can go on is the subject's affair."""
        return str(error) if isinstance(error, SimulationError) else ""


class _Within(Simulated):
    """The same for those who are in the simulation already."""

    def __init__(self, outer: Simulated) -> None:
        super().__init__(outer.seed)

    def held(self, bench: Any, contract: Contract, method: str, *arguments: Any) -> Any:
        """See `Ground`: here."""
        return getattr(contract, method)(*arguments)


class SimBench(Bench):
    """Holds planned conversations in simulations, which run in the subject's process.

    Args:
        target: The subject.
        seed: The seed of the simulations.
    """

    def __init__(self, target: Any, seed: int | str) -> None:
        super().__init__(target, _Stages(seed))

    def why_not(self, plan: Any) -> str:
        """See `Bench`."""
        if isinstance(plan, Scene):
            return ""
        inner = [
            one for one in (getattr(plan, "inner", None), *getattr(plan, "after", ())) if one is not None
        ]
        measured = plan.measure or plan.times > 1 or any(self.why_not(one) for one in inner)
        return _MEASURED if measured else ""

    def rehearse(self, plans: Iterable[Any], *, fresh: bool = False, limit: float = 2.0) -> list[Any]:
        """See `Bench`.

        Raises:
            NotSimulated: The subject asked for what cannot be simulated.
        """
        records = super().rehearse(plans, fresh=fresh, limit=limit)
        for record in records:
            for note in record.notes:
                if note.startswith(REFUSED):
                    raise NotSimulated(note.removeprefix(REFUSED))
        return records

    def stage(self, contract: Contract, method: str, arguments: tuple[Any, ...]) -> Staged | Record:
        """Call a method of a contract in a simulation of its own."""
        data, _ = dump_plan((contract, method, arguments), "the contract")
        try:
            staged: Staged | Record = self.rehearse([Scene(data)], fresh=True, limit=_LIMIT)[0]
        except UsageError as error:
            return Staged(refused=str(error))
        return staged


class _Stages:
    """Makes stages of one seed."""

    def __init__(self, seed: int | str) -> None:
        self._seed = seed

    def __call__(self, target: Any) -> SimStage:
        return SimStage(target, self._seed)


def _lost_outcome(name: str, staged: Staged | Record) -> Outcome:
    if isinstance(staged, Staged):
        return Outcome(name, "skipped", reason=staged.refused)
    return Outcome(name, "found", 1, (Finding(1, 0, describe_record(staged), staged.stacks),))


def _lost_result(contract: Contract, arguments: tuple[Any, ...], staged: Staged | Record) -> Result:
    info = getattr(arguments[0], "info", arguments[0])
    where = getattr(arguments[0], "where", None) or arguments[2]
    if isinstance(staged, Staged):
        return Result(info.name, info.family, where, "not simulated", (), staged.refused)
    violation = Violation(
        info.name, where, describe_record(staged), b"", b"", None, contract.seed, staged.stacks, "", "", 0
    )
    return Result(info.name, info.family, where, "violated", (violation,))

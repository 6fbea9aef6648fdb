"""The fixture `simulate`: a simulation for a test, or one for each of many seeds."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from .._support import UsageError
from ..sim import FailingSeed, Simulation, explore

if TYPE_CHECKING:
    import pytest

    from ..launch import Running

__all__ = ("OPT_SIM_SEED", "Simulate", "call_simulated")

OPT_SIM_SEED = "--servertest-simulate-seed"

#: A failing test shows its own line, not ours.
__tracebackhide__ = True

#: Lines of a history that a report shows.
_LINES = 40


class Simulate:
    """Begins a simulation, in which the test takes part until it ends. Call it as you would `servertest.sim.Simulation`.

    Args:
        seed: What to take where the test says nothing.
        wanted: The seed that the command line asks for, whatever the test says.
    """

    def __init__(self, seed: int, wanted: int | None) -> None:
        self._seed = seed
        self.wanted = wanted
        self.net: Simulation | None = None
        self._given: Simulation | None = None

    def __call__(self, seed: int | str | None = None, **options: Any) -> Simulation:
        """Begin.

        Args:
            seed: The seed; by default the test's own, of the run's seed.
            options: As for `servertest.sim.Simulation`.

        Raises:
            UsageError: There is one already, or the mark has said what it is like.
        """
        if self._given is not None:
            if seed is not None or options:
                raise UsageError(
                    "with seeds= in the mark servertest_simulate, the mark says what the simulation is like"
                )
            return self._given
        if self.net is not None:
            raise UsageError("the test is in a simulation already")
        chosen = self._seed if seed is None else seed
        net = Simulation(chosen if self.wanted is None else self.wanted, **options)
        net.__enter__()
        self.net = net
        return net

    def within(self, net: Simulation | None) -> None:
        """Give this simulation to whoever asks for one."""
        self._given = net

    def end(self, error: BaseException | None) -> None:
        """The test has ended like this: end the simulation."""
        net, self.net = self.net, None
        if net is not None:
            net.__exit__(
                None if error is None else type(error), error, None if error is None else error.__traceback__
            )

    def abandon(self) -> None:
        """End what was begun outside of the test itself, at once."""
        self.end(UsageError("the test is over"))


def call_simulated(item: pytest.Function, simulate: object, servers: list[Running]) -> bool:
    """Call the test function, once or for each seed of its mark.

    Args:
        item: The test.
        simulate: Its fixture.
        servers: What other fixtures have put up for it: inside the simulation it ends with that.

    Returns:
        Whether it was called: what is no plain function is somebody else's.
    """
    if inspect.iscoroutinefunction(item.obj) or not isinstance(simulate, Simulate):
        return False
    marker = item.get_closest_marker("servertest_simulate")
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}  # noqa: SLF001 - as pytest itself does
    if marker is not None and ("seeds" in marker.kwargs or marker.args):
        _call_often(item, simulate, arguments, *marker.args, **marker.kwargs)
        return True
    net: Simulation | None = None
    try:
        try:
            item.obj(**arguments)
        except BaseException as error:
            net = simulate.net
            simulate.end(error)
            if net is not None:
                _forget(servers)
            raise
        net = simulate.net
        if net is not None:
            for running in reversed(servers):
                running.stop()
        simulate.end(None)
    except BaseException:
        if net is not None:
            item.add_report_section("call", "servertest simulation", _section(net))
        raise
    return True


def _forget(servers: list[Running]) -> None:
    """They have ended with their simulation, and were not asked to."""
    for running in servers:
        running.errors.clear()
        running._running = False  # noqa: SLF001 - nothing is left that could be stopped


def _call_often(
    item: pytest.Function, simulate: Simulate, arguments: dict[str, Any], seeds: Any, **options: Any
) -> None:
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    if simulate.wanted is not None:
        chosen = [simulate.wanted]

    def scenario(net: Simulation) -> None:
        simulate.within(net)
        try:
            item.obj(**arguments)
        finally:
            simulate.within(None)

    found = explore(scenario, chosen, **options)
    if found is not None:
        item.add_report_section("call", "servertest simulation", f"{found}\n{_again(found.seed)}")
        raise _with_seed(found)


def _with_seed(found: FailingSeed) -> BaseException:
    found.error.add_note(f"with seed {found.seed} of a simulation, the first of {found.tried} that failed")
    return found.error


def _again(seed: object) -> str:
    return f"again: pytest {OPT_SIM_SEED}={seed}"


def _section(net: Simulation) -> str:
    shown = net.history[-_LINES:]
    left_out = len(net.log) - len(shown)
    head = [f"seed {net.seed}, {net.now:g} s of virtual time; {_again(net.seed)}"]
    if left_out:
        head.append(f"... {left_out} lines before")
    return "\n".join([*head, *shown])

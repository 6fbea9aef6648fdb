"""The faults of a server that runs, as the test sees them: seed, changes, and what they have done."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..faults import Trace, plan as to_plan
from ._faults import FaultSetup

if TYPE_CHECKING:
    from ..faults import Faults, Plan
    from ._faults_control import FaultControl
    from ._host import Host

__all__ = ("RunningFaults",)

#: Decisions that a report shows.
_SHOWN = 50


class RunningFaults:
    """Kept by `Running` through restarts.

    Args:
        faults: Those with which it was launched.
        seed: Where random numbers come from.

    Attributes:
        hits: What was decided.
    """

    def __init__(self, faults: Plan, seed: int | str) -> None:
        self.hits = Trace()
        self._faults = faults
        self._seed = seed
        self._more: dict[str, Plan] = {}
        self._keys = itertools.count(1)
        self._local: Any = None
        self._control: FaultControl | None = None
        self._lock = threading.Lock()

    def setup_for(self, host: Host) -> FaultSetup:
        """What a server that is about to be built needs."""
        self.close()
        path = None
        if type(host).__name__ == "ProcessHost":
            from ._faults_control import FaultControl

            self._control = FaultControl()
            path = self._control.path
            for key, faults in self._more.items():
                self._control.put(key, faults)
        return FaultSetup(self._faults, self._seed, path)

    def started(self, host: Any) -> None:
        """It is built."""
        self._local = None if self._control is not None else host.faults
        if self._local is not None:
            self._local.put_all(self._more)

    @contextlib.contextmanager
    def block(self, faults: Faults) -> Iterator[None]:
        """See `Running.faults`."""
        wanted = to_plan(faults)
        key = f"block {next(self._keys)}"
        self._put(key, wanted)
        try:
            yield
        finally:
            self._put(key, None)

    def _put(self, key: str, faults: Plan | None) -> None:
        with self._lock:
            more = {other: plan for other, plan in self._more.items() if other != key}
            if faults is not None:
                more[key] = faults
            if self._control is not None:
                self._control.put(key, faults)
            elif self._local is not None:
                self._local.put_all(more)
            self._more = more

    def close(self) -> None:
        """The server has ended."""
        control, self._control = self._control, None
        self._local = None
        if control is not None:
            control.close()

    def report(self) -> str:
        """Faults, seed, and what they have decided."""
        lines = [f"faults: {self._faults!r}", f"seed: {self._seed!r}"]
        lines += [f"in addition: {faults!r}" for faults in self._more.values()]
        decisions = self.hits.decisions
        lines += [str(decision) for decision in decisions[:_SHOWN]]
        if len(decisions) > _SHOWN:
            lines.append(f"... and {len(decisions) - _SHOWN} more")
        return "\n".join(lines)

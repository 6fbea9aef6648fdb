"""The faults of a server that runs, as the test sees them: seed, changes, and what they have done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..faults import Decision, History, Plan, Refuse, Trace, plan as to_plan
from ..faults._standing import Standing
from ._faults import FaultSetup, takes_down

if TYPE_CHECKING:
    from ..faults import Faults
    from ._faults_control import FaultControl
    from ._host import Host

__all__ = ("RunningFaults",)


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
        self._started = monotonic()
        # Here, and not where the server is: all its processes have to give the same names and draw the same.
        self._standing = Standing()
        at_sockets = Plan(tuple(entry for entry in faults if not takes_down(entry)))
        _, self._first = self._standing.add("", at_sockets)
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
        return FaultSetup(self._first, self._seed, path)

    def started(self, host: Any) -> None:
        """It is built."""
        self._local = None if self._control is not None else host.faults
        if self._local is not None:
            self._local.put_all(self._more)

    @contextlib.contextmanager
    def block(self, faults: Faults) -> Iterator[None]:
        """See `Running.faults`."""
        wanted = to_plan(faults)
        with self._lock:
            key, named = self._standing.add(None, wanted)
            try:
                self._put(key, named)
            except BaseException:
                self._standing.remove(key)
                raise
        try:
            yield
        finally:
            with self._lock:
                self._standing.remove(key)
                self._put(key, None)

    @property
    def _more(self) -> dict[str, Plan]:
        """What has been added."""
        return {key: faults for key, faults in self._standing if key}

    def _put(self, key: str, faults: Plan | None) -> None:
        if self._control is not None:
            self._control.put(key, faults)
        elif self._local is not None:
            self._local.put_all(self._more)

    def refused(self) -> None:
        """It was taken down, to refuse everybody."""
        self.hits.add(Decision(monotonic(), 0, "upstream", Refuse.name, "refuses"))

    def close(self) -> None:
        """The server has ended."""
        control, self._control = self._control, None
        self._local = None
        if control is not None:
            control.close()

    def history(self, who: str) -> History:
        """Faults, seed, and what they have decided."""
        return History(who, self._faults, self._seed, self.hits, self._started)

    def report(self) -> str:
        """The same for people."""
        more = [f"in addition: {faults!r}" for faults in self._more.values()]
        return "\n".join([self.history("").render(), *more])

"""Where the transcript and the faults meet the sockets."""

from ._datagrams import *
from ._observed import *

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._faulty import *

__all__ = (
    "ObservedDatagramSocket",
    "ObservedListener",
    "ObservedSocket",
    "change_faults",
    "faulty",
    "observe",
    "observe_context",
    "observe_datagrams",
    "observe_listener",
    "observed_number",
)


def __getattr__(name: str) -> object:
    # Most tests have no faults, and need not wait until all that belongs to them is loaded.
    if name in ("change_faults", "faulty"):
        from . import _faulty

        return getattr(_faulty, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

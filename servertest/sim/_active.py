"""Which simulation there is, if any: there is one at a time in a process."""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._kernel import Kernel

__all__ = ("active", "participant")


class _Active:
    """Holds the kernel; the patched functions look here."""

    __slots__ = ("kernel",)

    def __init__(self) -> None:
        self.kernel: Kernel | None = None


active = _Active()


def participant() -> Kernel | None:
    """The kernel, if the calling thread belongs to its simulation and it is its turn."""
    kernel = active.kernel
    if kernel is not None and kernel.running == get_ident():
        return kernel
    return None

"""Where a subject is held to its contract: on this machine, or wherever somebody else can hold it.

What checks do is the same everywhere. A ground says on which kinds of server it can be done, brings the bench on which planned conversations are
held, and lets the rest, for which a server runs, be done where that server can run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..launch import HandlerTarget
from ._case import IN_A_PROCESS
from ._subject import Bench

if TYPE_CHECKING:
    from ..launch import Kind
    from ._contract import Contract

__all__ = ("Ground",)


class Ground:
    """This machine, with its processes and sockets.

    Attributes:
        name: What reports call it; nothing for this machine.
        hosting: How request handlers are launched: keywords of `launch`.
        module: Where `rehearse` is to be had for it.
    """

    name: str = ""
    hosting: Mapping[str, Any] = IN_A_PROCESS
    module: str = "servertest.contract"

    def why_not(self, kind: Kind) -> str:
        """Why a kind of server cannot run there; nothing if it can."""
        return ""

    def bench(self, target: Any, *, rehearsed: bool) -> Any:
        """Where planned conversations are held, and what `held` needs: a context manager, or None if there is no need of any.

        Args:
            target: The subject.
            rehearsed: Whether it can be held conversations with, as a request handler can.
        """
        return Bench(target) if rehearsed else None

    def held(self, bench: Any, contract: Contract, method: str, *arguments: Any) -> Any:
        """Call a method of a contract for which servers run, and give what it gives.

        Args:
            bench: What `bench` has given.
            contract: The contract.
            method: The name of the method.
            arguments: What it is called with.
        """
        return getattr(contract, method)(*arguments)

    def explained(self, error: Exception) -> str:
        """What an exception that leaves a check says of the subject; nothing if it says something of servertest."""
        return ""

    def hosting_of(self, target: Any) -> Mapping[str, Any]:
        """How this subject is launched: who brings a server knows best where that runs."""
        return self.hosting if isinstance(target, HandlerTarget) else {}

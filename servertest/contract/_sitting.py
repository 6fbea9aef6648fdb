"""A contract that is held check by check, as test runners do it: what they share is prepared once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ..launch import Kind, kinds as all_kinds
from ..launch._targets import target_for
from ..transcript import Framing
from ._check import plain_outcome, stops, why
from ._contract import Contract, Item, prepared
from ._conversation import conversations_of
from ._ground import Ground
from ._live import script_of
from ._promises import Promises
from ._registry import select_checks
from ._report import Outcome, Result
from ._subject import Profile

__all__ = ("Sitting",)


class Sitting:
    """A subject and its contract. `items` can be asked for before anything is done; `open` begins, `close` ends.

    Args:
        subject: A request handler, or anything else that `launch` takes.
        exchanges: As for `check`.
        transport: "stream" or "datagram".
        promises: What it promises.
        kinds: On which kinds; by default on the predefined ones that its promises allow.
        checks: Names of checks or families.
        exclude: Checks that are not wanted, each with the reason.
        profile: "quick" or "full".
        seed: What repeats random choices.
        timeout: Seconds for each step of a conversation with a server.
        framing: Where replies end, for exchanges that do not say it themselves.
        ground: Where it is done; on this machine by default.
    """

    def __init__(
        self,
        subject: Any,
        exchanges: Sequence[Any],
        *,
        transport: Any = "stream",
        promises: Promises | Mapping[str, Any] | None = None,
        kinds: Iterable[Kind | str] | None = None,
        checks: str | Collection[str] | None = None,
        exclude: Mapping[str, str] | None = None,
        profile: Profile = "quick",
        seed: int = 0,
        timeout: float = 5.0,
        framing: Framing | None = None,
        ground: Ground | None = None,
    ) -> None:
        given = Promises.of(promises)
        target = target_for(subject)
        chosen = _allowed(transport, given) if kinds is None else [Kind.parse(kind) for kind in kinds]
        conversations = tuple(conversations_of(exchanges, transport, framing))
        self._contract = Contract(
            target,
            conversations,
            given,
            chosen,
            select_checks(checks),
            exclude or {},
            profile,
            seed,
            timeout,
            ground=ground or Ground(),
        )
        self._outcomes: dict[str, Outcome] = {}
        self._bench: Any = None
        self._hall: Any = None
        self._late: tuple[int, ...] = ()
        self.stopped = ""

    @property
    def kinds(self) -> Sequence[Kind]:
        """On which kinds the exchanges are held."""
        return self._contract.kinds

    def items(self) -> list[Item]:
        """The checks and where they are to be done."""
        return list(self._contract.items())

    def open(self) -> None:
        """Hold the exchanges plainly in memory; `stopped` says what did not go as expected, if so."""
        contract = self._contract
        self._hall = contract.ground.bench(contract.target, rehearsed=contract.can_be_rehearsed)
        bench = self._hall if contract.can_be_rehearsed else None
        self._contract, self._bench, findings, self._late = prepared(contract, bench)
        if findings:
            self.stopped = "\n".join(f"{one.what}\n{one.details}" for one in findings)

    def close(self) -> None:
        """End the subject's process."""
        hall, self._hall, self._bench = self._hall, None, None
        if hall is not None:
            hall.close()

    def exchanges_on(self, kind: Kind) -> Outcome:
        """How the exchanges as they are go on a kind of server."""
        if str(kind) not in self._outcomes:
            contract = self._contract
            scripts = [script_of(one) for one in contract.conversations if one.number not in self._late]
            options = contract.ground.hosting_of(contract.target)
            self._outcomes[str(kind)] = plain_outcome(
                contract, self._hall, contract.target, kind, scripts, options
            )
        return self._outcomes[str(kind)]

    def result(self, item: Item) -> Result:
        """What comes of a check."""
        failed: dict[str, str] = {}
        if item.kind is not None and item.info.technique != "in memory":
            outcome = self.exchanges_on(item.kind)
            if stops(outcome):
                failed[outcome.kind] = why(outcome)
        return self._contract.result(item, self._bench, failed, self._hall)


def _allowed(transport: Any, promises: Promises) -> list[Kind]:
    """The predefined kinds on which the subject may be put by its promises."""
    families = [family for family, wanted in (("inet", True), ("unix", promises.unix)) if wanted]
    found = all_kinds(transport=transport, family=families)  # type: ignore[arg-type]
    forking = promises.forking or (promises.forking is None and not promises.stateful)
    return [kind for kind in found if forking or not kind.forks]

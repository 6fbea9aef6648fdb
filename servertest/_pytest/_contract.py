"""Contracts as test classes: each check on each kind of server is a test of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from .._support import preview

if TYPE_CHECKING:
    from ..contract import Profile, Promises, Result
    from ..contract._contract import Item
    from ..contract._sitting import Sitting
    from ..launch import Kind
    from ..transcript import Framing

__all__ = ("DatagramContract", "StreamContract")

#: A failing test shows what was found, and not our lines.
__tracebackhide__ = True


class _Contract:
    """What the two have in common.

    Attributes:
        handler: The request handler, or anything else that `launch` takes.
        exchanges: What clients say and expect: exchanges of one connection, or scripts, or several lists of exchanges.
        promises: What the handler promises.
        kinds: On which kinds of server; by default on the predefined ones that the promises allow.
        checks: Names of checks or families; all by default.
        exclude: Checks that are not wanted, by name, each with the reason.
        profile: "quick" or "full".
        seed: What repeats random choices.
        timeout: Seconds for each step of a conversation with a server.
        framing: Where replies end, for exchanges that do not say it themselves: see `servertest.check`.
        simulate: Whether all of it is done in simulations: see `docs/simulation.md`.
    """

    handler: ClassVar[Any] = None
    exchanges: ClassVar[Sequence[Any]] = ()
    promises: ClassVar[Promises | Mapping[str, Any] | None] = None
    kinds: ClassVar[Sequence[Kind | str] | None] = None
    checks: ClassVar[str | Collection[str] | None] = None
    exclude: ClassVar[Mapping[str, str]] = {}
    profile: ClassVar[Profile] = "quick"
    seed: ClassVar[int] = 0
    timeout: ClassVar[float] = 5.0
    framing: ClassVar[Framing | None] = None
    simulate: ClassVar[bool] = False

    _transport: ClassVar[str] = "stream"
    _shared: ClassVar[Sitting]

    @classmethod
    def _sitting(cls) -> Sitting:
        from ..contract._sitting import Sitting

        if cls.handler is None:
            raise pytest.UsageError(f"{cls.__name__}: say what is to be checked: handler = ...")
        if not cls.exchanges:
            raise pytest.UsageError(
                f"{cls.__name__}: say what clients say: exchanges = [Exchange(sent, expected)]"
            )
        handler = cls.__dict__.get("handler", cls.handler)
        ground = None
        if cls.simulate:
            from ..sim import Simulated

            ground = Simulated(cls.seed)
        return Sitting(
            getattr(handler, "__func__", handler),
            cls.exchanges,
            transport=cls._transport,
            promises=cls.promises,
            kinds=cls.kinds,
            checks=cls.checks,
            exclude=cls.exclude,
            profile=cls.profile,
            seed=cls.seed,
            timeout=cls.timeout,
            framing=cls.framing,
            ground=ground,
        )

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each kind, and one for each check where it is to be done."""
        if "contract_kind" in metafunc.fixturenames:
            kinds = self._sitting().kinds
            metafunc.parametrize("contract_kind", kinds, ids=[str(kind) for kind in kinds])
        elif "contract_item" in metafunc.fixturenames:
            items = self._sitting().items()
            ids = [f"{item.info.name}-{item.where}".replace(" ", "_") for item in items]
            metafunc.parametrize("contract_item", items, ids=ids)

    @classmethod
    def setup_class(cls) -> None:
        """Prepare what all tests of the class share: the subject's process, and what is answered when all goes well."""
        cls._shared = cls._sitting()
        cls._shared.open()

    @classmethod
    def teardown_class(cls) -> None:
        """End the subject's process."""
        cls._shared.close()

    def test_exchanges(self, contract_kind: Kind) -> None:
        """The exchanges as they are."""
        if self._shared.stopped:
            pytest.fail(self._shared.stopped, pytrace=False)
        outcome = self._shared.exchanges_on(contract_kind)
        if outcome.verdict == "skipped":
            pytest.skip(outcome.reason)
        if outcome.verdict != "ok":
            found = [f"{one.what}\n{one.details}\n{one.transcript}" for one in outcome.findings]
            pytest.fail("\n".join([outcome.reason, *found]), pytrace=False)

    def test_check(self, contract_item: Item) -> None:
        """One of the checks."""
        if self._shared.stopped:
            pytest.skip("the exchanges do not go as expected")
        result = self._shared.result(contract_item)
        if result.verdict == "violated":
            pytest.fail(_described(result), pytrace=False)
        if result.verdict == "broke":
            pytest.fail(f"servertest itself broke in this check:\n{result.reason}", pytrace=False)
        if result.verdict != "passed":
            pytest.skip(f"{result.verdict}: {result.reason}")


class StreamContract(_Contract):
    r"""Inherit from it in a test module, and say what is to be checked: see `docs/contracts.md`.

    .. code-block:: python

        class TestUpper(StreamContract):
            handler = Upper
            exchanges = [Exchange(b"hi\n", b"HI\n")]
            promises = Promises(idle_timeout=0.5, max_request=65536)
    """


class DatagramContract(_Contract):
    """The same for handlers of datagrams."""

    _transport = "datagram"


def _described(result: Result) -> str:
    lines = []
    for violation in result.violations:
        lines += [
            str(violation),
            f"sent     {preview(violation.sent, 500)}",
            f"came     {preview(violation.came, 500)}",
        ]
        if violation.expected is not None:
            lines.append(f"expected {preview(violation.expected, 500)}")
        lines += [part for part in (violation.details, violation.transcript) if part]
        if violation.reproduction:
            lines += ["to see it:", *(f"    {line}" for line in violation.reproduction.splitlines())]
        lines.append(f"seed {violation.seed}")
    return "\n".join(lines)

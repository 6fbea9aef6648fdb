"""Checks: small functions that register themselves, and are found by looking into the package `_checks`.

A new check is one function. Its docstring is its entry in the catalogue; its first line says what the check does, in a sentence.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .._support import Transport, UsageError

if TYPE_CHECKING:
    from ..launch import Kind
    from ._case import Case
    from ._violation import Violation

__all__ = (
    "CheckFamily",
    "CheckInfo",
    "NotApplicable",
    "NotPromised",
    "NotSimulated",
    "Technique",
    "all_checks",
    "checks_for",
    "contract_check",
    "select_checks",
)

CheckFamily: TypeAlias = Literal[
    "framing",
    "writing",
    "endings",
    "slowness",
    "state",
    "addresses",
    "resources",
    "robustness",
    "lifecycle",
    "datagrams",
    "tls",
]
Technique: TypeAlias = Literal["in memory", "live server"]
"""in memory: the handler is called with a scripted connection; nothing depends on time. live server: it is launched, and clients talk to it."""


class NotApplicable(Exception):  # noqa: N818 - says why a check has nothing to do
    """There is nothing in the exchanges that the check could work with; the message says what is missing."""


class NotPromised(Exception):  # noqa: N818
    """The check needs something that is not promised; the message says what."""


class NotSimulated(Exception):  # noqa: N818
    """The check needs something that there is not where it is to be done; the message says what."""


@dataclass(frozen=True, slots=True)
class CheckInfo:
    """A check.

    Attributes:
        name: Its name.
        family: What it is about.
        transport: For which transport.
        technique: How it does it.
        needs: Promises without which it is not done.
        unless: Promises with which it makes no sense, and why.
        kinds: On which kinds of server; all by default.
        function: The check itself: takes a `Case`, and gives violations.
    """

    name: str
    family: CheckFamily
    transport: Transport
    technique: Technique
    needs: tuple[str, ...]
    unless: Mapping[str, str]
    kinds: Callable[[Kind], bool] | None
    function: Callable[[Case], Iterable[Violation]]

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return inspect.cleandoc(self.function.__doc__ or "").partition("\n\n")[0].replace("\n", " ")

    @property
    def description(self) -> str:
        """Its docstring without the first sentence."""
        return inspect.cleandoc(self.function.__doc__ or "").partition("\n\n")[2]


_checks: dict[tuple[str, Transport], CheckInfo] = {}


def contract_check(
    family: CheckFamily,
    *,
    transport: Transport = "stream",
    technique: Technique = "in memory",
    needs: Iterable[str] = (),
    unless: Mapping[str, str] | None = None,
    kinds: Callable[[Kind], bool] | None = None,
    name: str | None = None,
) -> Callable[[Callable[[Case], Iterable[Violation]]], Callable[[Case], Iterable[Violation]]]:
    """Register a check; its name is the function's.

    Args:
        family: What it is about.
        transport: For which transport.
        technique: "in memory" if it holds planned conversations, "live server" if it needs a server.
        needs: Promises without which it is reported as not promised.
        unless: Promises with which it makes no sense, each with the reason.
        kinds: On which kinds of server it is of use; all by default.
        name: Its name, if the function has another one: one that looks for the same with the other transport shares the name.
    """

    def register(function: Callable[[Case], Iterable[Violation]]) -> Callable[[Case], Iterable[Violation]]:
        own = name or function.__name__
        assert (own, transport) not in _checks, f"there are two checks {own} for {transport}s"
        assert function.__doc__, f"the check {own} has no docstring, which is its entry in the catalogue"
        _checks[own, transport] = CheckInfo(
            own, family, transport, technique, tuple(needs), dict(unless or {}), kinds, function
        )
        return function

    return register


@functools.cache
def _load() -> None:
    from . import _checks as package

    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        import_module(f"{package.__name__}.{module}")


def all_checks(transport: Transport | None = None) -> list[CheckInfo]:
    """Every check, of one transport or of all, in the order of their families."""
    _load()
    order = CheckFamily.__args__  # type: ignore[attr-defined]
    found = [info for info in _checks.values() if transport in (None, info.transport)]
    return sorted(found, key=lambda info: order.index(info.family))


def checks_for(name: str) -> list[CheckInfo]:
    """The check of that name: one, or one for each transport.

    Raises:
        UsageError: There is none; the message names the nearest.
    """
    _load()
    found = [info for info in all_checks() if info.name == name]
    if not found:
        close = difflib.get_close_matches(name, dict.fromkeys(one for one, _ in _checks), n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `servertest check --list`"
        raise UsageError(f"there is no check {name!r}; {hint}")
    return found


def select_checks(names: str | Collection[str] | None) -> list[CheckInfo]:
    """The checks that are asked for, by names or names of families; all of them for None and "all".

    Raises:
        UsageError: A name is neither.
    """
    if names is None or names == "all":
        return all_checks()
    wanted = [names] if isinstance(names, str) else list(names)
    families: tuple[Any, ...] = CheckFamily.__args__  # type: ignore[attr-defined]
    chosen: set[str] = set()
    for name in wanted:
        found = (
            [info for info in all_checks() if info.family == name] if name in families else checks_for(name)
        )
        chosen.update(info.name for info in found)
    return [info for info in all_checks() if info.name in chosen]

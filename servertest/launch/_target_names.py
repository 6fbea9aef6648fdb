"""What targets are called, and what can be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from .._support import UsageError

__all__ = ("check_callable", "listed", "name_of", "required_parameters", "takes")


def name_of(thing: object) -> str:
    """What reports call a class, a function or an object."""
    if isinstance(thing, functools.partial):
        return name_of(thing.func)
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    return str(name).rpartition("<locals>.")[2]


def check_callable(thing: object, what: str) -> None:
    if not callable(thing):
        raise UsageError(f"{thing!r} is not {what}")


def takes(thing: Any, count: int) -> bool:
    try:
        inspect.signature(thing).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def required_parameters(function: Any) -> int | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def listed(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> str:
    shown = [*map(name_of, arguments), *(f"{key}=..." for key in keywords)]
    return ", ".join(shown)

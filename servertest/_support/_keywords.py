"""Keywords that nobody knows: what was meant."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any, ParamSpec, TypeVar, cast

from ._errors import UnknownKeyword

__all__ = ("refuse_unknown_keywords", "suggests_keywords")

_P = ParamSpec("_P")
_T = TypeVar("_T")


def refuse_unknown_keywords(function: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse the first keyword that is not known.

    Args:
        function: What the caller has called it.
        given: The names that were given.
        known: Those that there are.

    Raises:
        UnknownKeyword: It names the one that was probably meant, or all that there are.
    """
    for name in given:
        if name not in known:
            raise UnknownKeyword(f"{function}() knows no {name}=; {_hint(name, known)}")


def _hint(name: str, known: Collection[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}=?" if close else f"there is {', '.join(f'{n}=' for n in known)}"


def suggests_keywords(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have a function with keyword-only parameters say which keyword was probably meant when it is given one that it does not know.

    The parameters stay what they are for type checkers, which see the mistake before it is made.
    """
    code = cast("Any", function).__code__
    by_name = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    known = tuple(name for name in by_name if name not in ("self", "cls"))
    # A class is called by its name.
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if kwargs.keys() - known:
            refuse_unknown_keywords(called, kwargs, known)
        return function(*args, **kwargs)

    return checked

"""MODULE:NAME, as people write it on a command line."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .._support import UsageError

__all__ = ("load_object",)


def load_object(spec: str) -> Any:
    """The object that `spec` names: `package.module:Name`, `package.module:Name.inner`, or `path/to/file.py:Name`.

    The current directory is searched first, as `python -m` does.

    Raises:
        UsageError: There is no such module, it cannot be imported, or it has no such name.
    """
    place, colon, name = spec.rpartition(":")
    if not colon or not place or not name:
        raise UsageError(
            f"{spec!r} names no object: write MODULE:NAME, for example http.server:SimpleHTTPRequestHandler"
        )
    module = _load_file(place) if place.endswith(".py") else _load_module(place)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"{place} has no {name!r}{_nearest(part, dir(found))}") from None
    return found


def _load_module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(f"there is no module {missing!r} in {here} or where Python looks") from None
        raise UsageError(
            f"{name} cannot be imported: it needs the module {missing!r}, which is not installed"
        ) from error
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _load_file(name: str) -> ModuleType:
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"there is no file {name}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = (
        module  # so that what it defines can be found again, by a server process for example
    )
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(f"{name} cannot be run: {type(error).__name__}: {error}") from error
    return module


def _nearest(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

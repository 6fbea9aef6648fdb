"""Proxies from a file: a list as for Toxiproxy, or an object with more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._support import UsageError
from ._problem import ApiProblem
from ._reading import Fields, parse_json

__all__ = ("Config", "load_config")


@dataclass(frozen=True, slots=True)
class Config:
    """What a file says.

    Attributes:
        proxies: For `Collection.populate`.
        seed: Where seeds come from; None if it does not say.
    """

    proxies: list[Any]
    seed: int | str | None = None


def load_config(path: str | Path) -> Config:
    """Read a file: a list of proxies, or ``{"seed": 7, "proxies": [...]}``.

    Raises:
        UsageError: It cannot be read, or is malformed.
    """
    try:
        value = parse_json(Path(path).read_bytes())
        if isinstance(value, list):
            return Config(value)
        fields = Fields(value, "the file")
        seed, proxies = fields.take("seed"), fields.take("proxies", [])
        fields.done()
        if seed is not None and type(seed) not in (int, str):
            fields.refuse("seed", "a whole number or a text", seed)
        if not isinstance(proxies, list):
            fields.refuse("proxies", "a list of proxies", proxies)
        return Config(proxies, seed)
    except OSError as error:
        raise UsageError(f"the config cannot be read: {error}") from None
    except ApiProblem as problem:
        raise UsageError(f"{path}: {problem.message.removeprefix('bad request body: ')}") from None

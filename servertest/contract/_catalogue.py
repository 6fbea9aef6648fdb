"""The catalogue of checks, made of their docstrings: ``python -m servertest.contract._catalogue > docs/checks.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby

from ._registry import CheckInfo, all_checks

__all__ = ("catalogue",)

_HEAD = """\
# The checks

This page is made of the checks' own docstrings. *In memory* means that the handler is called with a scripted connection, in a process of its own: nothing
depends on the speed of the machine, and time passes at once. *Live server* means that it is launched, on every kind of server that is asked for.
A check that needs a promise which is not made is reported as not promised.
"""


def catalogue() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for family, infos in groupby(all_checks(), key=lambda info: info.family):
        parts.append(f"## {family.capitalize() if family != 'tls' else 'TLS'}\n")
        parts += ["\n".join(_entry(info)) for info in infos]
    return "\n".join(parts)


def _entry(info: CheckInfo) -> Iterator[str]:
    yield f"### `{info.name}`{' (datagrams)' if info.transport == 'datagram' and info.family != 'datagrams' else ''}\n"
    yield f"*{_conditions(info)}*\n"
    yield f"{info.summary}\n"
    if info.description:
        yield f"{info.description}\n"


def _conditions(info: CheckInfo) -> str:
    parts = [info.technique.capitalize()]
    if info.needs:
        parts.append(
            f"needs the promise{'s' * (len(info.needs) > 1)} {', '.join(f'`{name}`' for name in info.needs)}"
        )
    if info.unless:
        parts.append(f"not with {', '.join(f'`{_as_said(name)}`' for name in info.unless)}")
    return "; ".join(parts)


def _as_said(name: str) -> str:
    return "reads=False" if name == "reads" else name


if __name__ == "__main__":
    sys.stdout.write(catalogue())

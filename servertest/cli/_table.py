"""Tables: with rich where it is installed and somebody looks, plain text otherwise."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TextIO

__all__ = ("print_table",)

_STYLES = {
    **dict.fromkeys(("ok", "passed"), "green"),
    **dict.fromkeys(("found", "violated"), "bold red"),
    **dict.fromkeys(("broken", "broke"), "bold magenta"),
    **dict.fromkeys(("skipped", "not promised", "not applicable", "not simulated", "excluded"), "dim"),
}


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, stream: TextIO | None = None
) -> None:
    """Print `rows` below `columns`. A cell that is one of the words ok, found, broken, skipped gets its colour."""
    stream = stream or sys.stdout
    rich_table = _rich_table(columns, rows) if stream.isatty() else None
    if rich_table is None:
        _print_plain(columns, rows, stream)
    else:
        from rich.console import Console

        Console(file=stream).print(rich_table)


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    try:
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    return table


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, ["-" * width for width in widths], *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip(), file=stream)

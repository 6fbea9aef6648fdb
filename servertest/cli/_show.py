"""`servertest show`: a recording for people, and for their tools."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .._support import UsageError
from ._status import FINE

__all__ = ("add_to",)


def add_to(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "show",
        help="show a .wire file: as a ladder here, or for a browser, for Wireshark, for programs",
        description="Show what passed, as recorded in a .wire file.",
    )
    parser.add_argument("file", metavar="FILE.wire", help="what was recorded")
    parser.add_argument("--html", metavar="FILE", help="write a sequence diagram for a browser")
    parser.add_argument("--pcapng", metavar="FILE", help="write a capture file for Wireshark")
    parser.add_argument("--jsonl", metavar="FILE", help="write a JSON object for each event, one a line")
    parser.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="the port that the server is said to have in the capture file, so that the protocol is known",
    )
    parser.add_argument("--full", action="store_true", help="with all bytes in hex, instead of the ladder")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show it."""
    from ..transcript import Transcript

    events = _events(arguments.file)
    for name, write in _WRITERS.items():
        if target := getattr(arguments, name):
            try:
                write(events, Path(target), arguments)
            except OSError as error:
                raise UsageError(f"{target} cannot be written: {error}") from None
            print(f"wrote {target}")
    if any(getattr(arguments, name) for name in _WRITERS):
        return FINE
    if not events:
        print(f"{arguments.file}: nothing passed")
    elif arguments.full:
        print(Transcript.from_events(events).render(max_lines=10_000, width=_width()))
    else:
        from ..transcript import ladder

        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        print(ladder(events, width=_width(), max_lines=10_000, color=color))
    return FINE


def _events(file: str) -> tuple[Any, ...]:
    from ..transcript import read_wire

    try:
        with open(file, "rb") as lines:
            return tuple(read_wire(lines, path=file))
    except OSError as error:
        raise UsageError(f"the recording cannot be read: {error}") from None


def _width() -> int:
    import shutil

    return min(shutil.get_terminal_size((100, 24)).columns, 160)


def _html(events: tuple[Any, ...], target: Path, arguments: argparse.Namespace) -> None:
    from ..transcript import sequence_diagram

    target.write_text(sequence_diagram(events, title=Path(arguments.file).name), encoding="utf-8")


def _pcapng(events: tuple[Any, ...], target: Path, arguments: argparse.Namespace) -> None:
    from ..transcript import write_pcapng

    # Recordings do not tell the date: the file's is near enough.
    began = Path(arguments.file).stat().st_mtime
    with target.open("wb") as file:
        write_pcapng(events, file, began=began, server_port=arguments.port)


def _jsonl(events: tuple[Any, ...], target: Path, arguments: argparse.Namespace) -> None:
    from ..transcript import write_jsonl

    with target.open("w", encoding="utf-8") as file:
        write_jsonl(events, file)


_WRITERS = {"html": _html, "pcapng": _pcapng, "jsonl": _jsonl}

"""Sequence diagrams of failed tests, in pytest's cache directory, for a browser."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..transcript import sequence_diagram

if TYPE_CHECKING:
    import pytest

    from ..transcript import Transcript

__all__ = ("save_diagrams",)

INI = "servertest_diagrams"


def save_diagrams(item: Any, shown: Iterable[tuple[str, Transcript | None, str]]) -> str:
    """Write a diagram for each server of a failed test.

    Args:
        item: The test.
        shown: What each server is called, what passed there, and what there is to say of it.

    Returns:
        Where they are, as lines to be shown; nothing where there is no place for them, or nothing to be seen.
    """
    directory = _directory(item.config)
    if directory is None:
        return ""
    lines = []
    for number, (name, transcript, report) in enumerate(shown, 1):
        if transcript is None or not transcript.events:
            continue
        stem = re.sub(r"[^\w.-]+", "-", item.nodeid)[-120:].strip("-")
        file = directory / f"{stem}{f'-{number}' if number > 1 else ''}.html"
        try:
            file.write_text(
                sequence_diagram(transcript, title=f"{item.nodeid}: {name}", report=report), "utf-8"
            )
        except OSError:
            continue  # the test has failed of something else, and that is what counts
        lines.append(f"sequence diagram: {file.as_uri()}")
    return "\n".join(lines)


def _directory(config: pytest.Config) -> Path | None:
    wanted = str(config.getini(INI))
    if wanted == "off":
        return None
    try:
        if wanted:
            directory = config.rootpath / wanted
            directory.mkdir(parents=True, exist_ok=True)
            return directory
        cache: Any = getattr(config, "cache", None)
        return None if cache is None else Path(cache.mkdir("servertest-diagrams"))
    except OSError:
        return None

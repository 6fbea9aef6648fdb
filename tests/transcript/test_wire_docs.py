"""What the pages show of the form is in the form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servertest.transcript import dump_wire, parse_exchanges, parse_wire

PAGES = Path(__file__).parents[2] / "docs"
SHOWN = re.findall(
    r"^```wire\n(.*?)^```$", (PAGES / "wire-format.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("text", SHOWN, ids=range(len(SHOWN)))
def test_what_is_shown_can_be_read(text: str) -> None:
    assert parse_exchanges(text)
    if "/" not in text:
        assert dump_wire(parse_wire(text)).splitlines()[0] == "wire 1"


def test_the_recorded_example_is_what_would_be_written() -> None:
    assert dump_wire(parse_wire(SHOWN[1])) == SHOWN[1]

"""Recording costs what it needs: the text form is loaded by those who use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import servertest.transcript

SCRIPT = """
import sys
before = set(sys.modules)
from servertest.transcript import Transcript
from servertest.wire import observe
transcript = Transcript()
transcript.note(transcript.connect("", ""), "x")
added = set(sys.modules) - before
print(sorted(name for name in added if name.startswith("servertest.transcript._wire_")), added & {"ssl", "difflib"})
import servertest.transcript
servertest.transcript.parse_wire("")
print("servertest.transcript._wire_form" in sys.modules)
"""


def test_the_text_form_is_loaded_when_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines() == ["[] set()", "True"]


def test_every_name_is_there_and_no_other() -> None:
    assert set(servertest.transcript.__all__) <= set(dir(servertest.transcript))
    for name in servertest.transcript.__all__:
        assert getattr(servertest.transcript, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = servertest.transcript.nothing

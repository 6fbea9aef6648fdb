"""Forking, pre-forking, and finishing in a child: each scene in a process of its own, with warnings as errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers._forking_scenes import SCENES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

ROOT = Path(__file__).parents[2]

#: What a scene prints: in the right order, and once.
PRINTS = {
    "what_a_child_prints_is_flushed_and_what_the_parent_printed_is_not_repeated": "from the parent\nfrom the child\n",
}
#: What a scene reports on stderr; the others report nothing.
REPORTS = {
    "an_exception_in_a_child_is_reported_there": "ZeroDivisionError: in the child",
    "a_failing_rest_is_reported_and_ends_the_connection": "ZeroDivisionError: in the rest",
}


#: Scenes that fork beside a thread on purpose: from 3.12 that warns.
FORKS_BESIDE_THREADS = {
    "a_forked_child_may_serve_although_a_loop_ran_in_the_parent",
    "a_pool_is_made_anew_after_a_fork",
    "closing_a_threading_server_in_a_forked_child_ends",
}


@pytest.mark.parametrize("name", SCENES)
def test_scene(name: str) -> None:
    result = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore" if name in FORKS_BESIDE_THREADS else "error",
            "-m",
            "tests.servers._forking_scenes",
            name,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == PRINTS.get(name, "")
    if name in REPORTS:
        assert REPORTS[name] in result.stderr
    else:
        assert result.stderr == ""

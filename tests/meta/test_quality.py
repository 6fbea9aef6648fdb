"""Lint, types and layers, as tests: `make check` runs them, a plain run leaves them out."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta._repository import ROOT

pytestmark = [pytest.mark.quality, pytest.mark.timeout(300)]

GATES = {
    "lint": ["ruff", "check", "--no-fix", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
}


def tool(name: str) -> str:
    """The tool beside this interpreter, not whatever the path may offer."""
    path = Path(sys.executable).with_name(name)
    assert path.exists(), f"{name} is not installed here: pip install --group check"
    return str(path)


@pytest.mark.parametrize("gate", GATES)
def test_gate(gate: str) -> None:
    name, *arguments = GATES[gate]
    ran = subprocess.run(
        [tool(name), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )

    assert ran.returncode == 0, f"{name} {' '.join(arguments)}\n{ran.stdout}{ran.stderr}"

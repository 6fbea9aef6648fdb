"""What users install is the package, whole, and nothing else."""

import subprocess
import sys
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from tests.meta._repository import ROOT, files

BUILD = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the backend itself: nothing is downloaded and nothing of the tree is touched."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    return message_from_string(read(wheel, "METADATA"))


def read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [path for path in archive.namelist() if path.endswith(f".dist-info/{name}")]
        return archive.read(path).decode()


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {
        path.relative_to(ROOT).as_posix() for path in files() if path.is_relative_to(ROOT / "servertest")
    }

    assert held == package
    assert "servertest/py.typed" in held


def test_it_is_for_every_platform_and_carries_its_licence(wheel: Path, metadata: Message) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    assert metadata["License-Expression"] == "MIT"
    assert "MIT License" in read(wheel, "licenses/LICENSE")
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload(), "the README is its description"


def test_it_brings_the_plugin_and_the_command(wheel: Path) -> None:
    entries = read(wheel, "entry_points.txt")

    assert "[pytest11]\nservertest = servertest.plugin" in entries
    assert "[console_scripts]\nservertest = servertest.cli:main" in entries


@pytest.mark.parametrize("module", ["servertest", "servertest.servers"])
def test_it_works_where_nothing_else_of_ours_is(wheel: Path, module: str) -> None:
    """Straight from the archive, with neither the source tree nor site-packages on the path."""
    check = f"import sys; sys.path.insert(0, sys.argv[1]); import {module}; print({module}.__file__)"
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", check, str(wheel)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(wheel))

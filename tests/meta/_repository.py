"""Where the repository is, and what belongs to it."""

import shutil
import subprocess
from pathlib import Path

__all__ = ("ROOT", "files")

ROOT = Path(__file__).resolve().parents[2]

GENERATED = {
    "__pycache__",
    "build",
    "dist",
    "htmlcov",
    "site",
}  # as in .gitignore, beside what begins with a dot


def files() -> list[Path]:
    """All files of the repository: what git knows or would take; without git, everything but what tools generate."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            timeout=30,
        )
        found = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _is_generated(path)]
    return sorted(path for path in found if path.is_file())


def _is_generated(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(
        part in GENERATED or (part.startswith(".") and part not in (".ci", ".gitignore")) for part in parts
    )

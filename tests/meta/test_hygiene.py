"""The repository stands on its own feet: it names no machine that it was written on, and no place that packages come from."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.meta._repository import ROOT, files

HERE = Path(__file__).resolve()

# Written so that this file does not find itself.
PATTERNS = {
    "somebody's home": re.compile(
        rb"(?<![\w.$}~])/(?:home|Users)/(?!user\b|me\b|you\b|execnet\b|\{)\w|(?<![\w.])/root(?=/)|[A-Z]:\\\\?Users\\"
    ),
    "a work folder of some machine": re.compile(rb"(?<![\w.)}~-])/(?:work|workspace|builds?|mnt|srv)/\w"),
    "a package registry": re.compile(
        rb"(?:files\.python|python)hosted\.org|\b(?:test\.)?pypi\.(?:org|python)|registry\.npmjs|\bcrates\.io|conda\.anaconda|proxy\.golang"
    ),
    "a choice of registry": re.compile(
        rb"--(?:extra-)?index-url|--find-links|--trusted-host|\bPIP_(?:EXTRA_)?INDEX|\bUV_(?:DEFAULT_)?INDEX"
    ),
}


def texts() -> list[tuple[Path, bytes]]:
    return [(path.relative_to(ROOT), path.read_bytes()) for path in files() if path != HERE]


def found_in(pattern: re.Pattern[bytes]) -> list[str]:
    return [
        f"{path}:{text[: match.start()].count(10) + 1}: {match.group().decode(errors='replace')}"
        for path, text in texts()
        for match in pattern.finditer(text)
    ]


def configured_sources() -> set[str]:
    """The places that this machine's pip is told to look at."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    values = " ".join(
        line.partition("=")[2].strip("'\"")
        for line in listing.stdout.splitlines()
        if "index" in line or "links" in line
    )
    return {re.sub(r"^\w+://(?:[^/@]*@)?", "", value).rstrip("/") for value in values.split()} - {"", "/"}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_names(what: str) -> None:
    assert found_in(PATTERNS[what]) == []


def test_no_file_names_this_machine() -> None:
    machine = {str(ROOT), sys.prefix, sys.base_prefix, socket.gethostname(), *configured_sources()}
    home = os.path.expanduser("~")
    if home.count("/") > 1:  # /root alone is no secret, and is looked for above
        machine.add(home)
    machine -= {"/", "/usr", "/usr/local", "localhost"}
    names = b"|".join(re.escape(name.encode()) for name in sorted(machine))

    assert found_in(re.compile(rb"(?<![\w.-])(?:%s)(?![\w-])" % names)) == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("somebody's home", b"open('/home/anna/x')"),
        ("somebody's home", b"/Users/anna"),
        ("somebody's home", b"cd /root/.cache"),
        ("a work folder of some machine", b"see /work/main"),
        ("a package registry", b"https://pypi.org/simple"),
        ("a choice of registry", b"pip install --index-url x"),
    ],
)
def test_the_patterns_bite(what: str, text: bytes) -> None:
    assert PATTERNS[what].search(text)


@pytest.mark.parametrize(
    "text", [b"tests/root/x", b"https://example.org/home/page", b"self.work/2", b"{tmp}/work/a", b"~/work/x"]
)
def test_the_patterns_spare_what_is_no_machine(text: bytes) -> None:
    assert not any(pattern.search(text) for pattern in PATTERNS.values())

"""Every snippet of README and docs runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.docs._snippets import ROOT, Command, commands, matches, pages, snippets


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def store(page: Path, directory: Path) -> int:
    """Write the snippets of a page down as files. Returns how many test modules there are."""
    tests = 0
    script: list[str] = []  # what is no test goes on where the last such snippet left off
    for snippet in snippets(page):
        if snippet.file is not None:
            (directory / snippet.file).parent.mkdir(parents=True, exist_ok=True)
            (directory / snippet.file).write_text(snippet.body, encoding="utf-8")
        if snippet.language == "python":
            tests += 1
            if re.search(r"^(?:async )?(?:def|class) (?:test_|Test)", snippet.body, re.MULTILINE):
                (directory / f"test_line_{snippet.line}.py").write_text(snippet.body, encoding="utf-8")
            else:
                script.append(f"# line {snippet.line}\n{snippet.body}")
    script.append("def test_the_page_runs_through():\n    pass\n")
    (directory / "test_page.py").write_text("\n".join(script), encoding="utf-8")
    return tests


def environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }


def test_the_readme_has_the_way_to_every_page() -> None:
    readme, *others = pages()
    listed = re.findall(r"^\| \[(\S+)\]\(\1\) \|", readme.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page_id(page) for page in others)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", pages(), ids=page_id)
def test_python_snippets(page: Path, tmp_path: Path) -> None:
    if not store(page, tmp_path):
        return  # a page of prose: nothing in it claims to run
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\ntimeout = 60\nasyncio_default_fixture_loop_scope = function\n"
    )
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            ".",
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def run(command: Command, directory: Path) -> tuple[str, int]:
    """Do as the page says. Returns what is printed, errors last, and the exit status."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            ["bash", "-c", command.text],
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdout is not None
        printed = ""
        give_up = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
        give_up.start()
        try:
            if command.until is not None:
                for line in process.stdout:
                    printed += line
                    if matches(command.until, printed):
                        os.killpg(process.pid, signal.SIGINT)
                        break
            printed += process.stdout.read()
            status = process.wait()
            errors.seek(0)
            return printed + errors.read(), status
        finally:
            give_up.cancel()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", pages(), ids=page_id)
def test_console_snippets(page: Path, tmp_path: Path) -> None:
    store(page, tmp_path)
    for snippet in snippets(page):
        if snippet.language != "console":
            continue
        for command in commands(snippet.body):
            if command.text.startswith(("make ", "pip ")):
                continue  # what sets the checkout up, in which this very test runs
            printed, status = run(command, tmp_path)
            where = f"{page_id(page)}:{snippet.line}: $ {command.text}"
            assert status == command.status, f"{where}\n{printed}"
            assert not command.output or matches(command.output, printed), f"{where}\n{printed}"


def test_the_judge_of_console_output_bites() -> None:
    assert matches("a ... c\n----", "a  b   c\n--------\n")
    assert not matches("a ... c", "a b d")
    assert not matches("a", "a\nb")


def test_commands_are_taken_apart() -> None:
    first, second = commands("$ one\nsays this\n[exit status 2]\n$ two\n")
    assert (first.text, first.output, first.status) == ("one", "says this", 2)
    assert (second.text, second.output, second.status) == ("two", "", 0)
    (third,) = commands("$ three\nserves\n^C\nends\n")
    assert (third.output, third.until) == ("serves\nends", "serves")


def test_a_command_is_interrupted_when_the_page_says_so(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(
        "import signal\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "print('up', flush=True)\n"
        "signal.sigwait([signal.SIGINT])\n"
        "print('down')\n"
    )
    (command,) = commands("$ python waits.py\nup\n^C\ndown\n")
    assert run(command, tmp_path) == ("up\ndown\n", 0)

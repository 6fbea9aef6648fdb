"""Whole runs of pytest: a hundred tests that each have a server of their own, and a run that has nothing to do with servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

from tests.bench._figures import Figure, Side, Target
from tests.bench._sampling import Open, Sample, Scale

__all__ = ("suites",)

HANDLER = """
import http.server, threading, time, urllib.request, pytest

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args):
        pass
"""

OURS = (
    HANDLER
    + """
@pytest.mark.parametrize("number", range({count}))
def test_get(serve, number):
    server = serve(Hello)
    with urllib.request.urlopen(f"http://127.0.0.1:{{server.port}}/", timeout=10) as reply:
        assert reply.read() == b"hello"
"""
)

# pytest-localserver's server answers in its loop's thread. A test that ends with the reply stops it while that thread has not yet gone back to wait, and
# then the stop takes no time; or half a second, if the thread was quicker. Which it is depends on how busy the machine is, so such a file
# is measured as often as not for what it is not. A test that does something with the reply meets a server that waits.
_LOOK_AT_IT = "        time.sleep(0.01)\n"

OURS_LOOKING = OURS + _LOOK_AT_IT

LOCALSERVER = (
    """
import time, urllib.request, pytest

@pytest.mark.parametrize("number", range({count}))
def test_get(httpserver, number):
    httpserver.serve_content("hello")
    with urllib.request.urlopen(httpserver.url, timeout=10) as reply:
        assert reply.read() == b"hello"
"""
    + _LOOK_AT_IT
)

BY_HAND = (
    HANDLER
    + """
@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()

@pytest.mark.parametrize("number", range({count}))
def test_get(server, number):
    with urllib.request.urlopen(f"http://127.0.0.1:{{server.server_port}}/", timeout=10) as reply:
        assert reply.read() == b"hello"
"""
)

EMPTY = "def test_nothing(): pass\n"

_LIMIT = 200


def _run(folder: Path, *options: str) -> Sample:
    before, began = os.times(), perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            *options,
            str(folder),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_LIMIT,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    value = perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"the run failed:\n{done.stdout}{done.stderr}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Sample(value, cpu)


def _running(source: str, *options: str) -> Open:
    """Seconds that a run of pytest takes, from its process's beginning to its end."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], Sample]]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "pytest.ini").write_text("[pytest]\n")
            (folder / "test_it.py").write_text(
                source.format(count=max(scale(100), 5)) if "{" in source else source
            )
            _run(folder, *options)  # what is imported is compiled once
            yield lambda: _run(folder, *options)

    return opened


def _extra_of_the_plugin() -> Open:
    """Seconds that the installed plugin adds to an empty run: with it minus without it, one after the other."""

    @contextlib.contextmanager
    def opened(scale: Scale) -> Iterator[Callable[[], Sample]]:
        with _running(EMPTY)(scale) as with_it, _running(EMPTY, "-p", "no:servertest")(scale) as without:

            def sample() -> Sample:
                first, second = with_it(), without()
                return Sample(first.value - second.value)

            yield sample

    return opened


def suites() -> Iterator[Figure]:
    """The figures about runs of pytest."""
    ours = Side("serve(...)", _running(OURS))
    title = "100 tests, a server each, the whole run"
    yield Figure(
        "suite-localserver",
        f"{title}; against pytest-localserver",
        "s",
        Side("serve(...)", _running(OURS_LOOKING)),
        Side("httpserver", _running(LOCALSERVER)),
        Target(0.25, at_most=True),
        rounds=1,
        samples=3,
    )
    yield Figure(
        "suite-by-hand",
        f"{title}; against a fixture written by hand",
        "s",
        ours,
        Side("by hand", _running(BY_HAND)),
        Target(0.02, at_most=True),
        rounds=1,
        samples=3,
    )
    yield Figure(
        "plugin",
        "what the plugin adds to an empty run of pytest",
        "s",
        Side("servertest", _extra_of_the_plugin()),
        None,
        Target(0.015, at_most=True, absolute=True),
        rounds=1,
        samples=21,
    )

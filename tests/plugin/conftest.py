"""Tests of the plugin run pytest inside pytest; what the inner run needs from the outer one is said here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trustme

import servertest._pytest
import servertest._pytest._mocks
import servertest._pytest._proxy
import servertest._pytest._repeat
import servertest._pytest._simulate
import servertest._pytest._swarm
import servertest._support._wire_data
import servertest.faults.strategies
import servertest.tls

#: pytester takes back what an inner run has imported, and some modules cannot be imported twice: so they are all here before.
PRESENT = (
    trustme,
    servertest.tls,
    servertest.faults.strategies,
    servertest._pytest._mocks,
    servertest._pytest._proxy,
    servertest._pytest._repeat,
    servertest._pytest._simulate,
    servertest._pytest._swarm,
    servertest._support._wire_data,
)

HANDLERS = """
import pytest
from servertest import servers

class Upper(servers.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line.upper())
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Callable[..., pytest.RunResult]:
    """Run a test file, after the handlers above, in a pytest of its own with no other plugins but those that are installed."""

    def run(source: str, *options: str, subprocess: bool = False) -> pytest.RunResult:
        pytester.makepyfile(HANDLERS + source)
        pytester.makeini(
            "[pytest]\nfilterwarnings = error\naddopts = -p no:randomly -p no:cacheprovider\nasyncio_default_fixture_loop_scope = function\n"
        )
        runner = pytester.runpytest_subprocess if subprocess else pytester.runpytest
        return runner(*options)

    return run

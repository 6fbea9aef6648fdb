"""What docs/findings.md says of the standard library is still so."""

from __future__ import annotations

import pytest

from tests.real.findings import subject


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "checks"),
    [
        ("logging.config", {"no_busy_loop"}),
        ("http.server.SimpleHTTPRequestHandler", {"garbage", "reset_after_each_prefix"}),
    ],
)
def test_it_is_found_again(name: str, checks: set[str]) -> None:
    report = subject(name).report(checks=sorted({*checks, "no_leak_after_requests"}))
    assert set(report.violated()) == checks


@pytest.mark.slow
def test_a_server_that_catches_what_clients_do_is_clean() -> None:
    pytest.importorskip("werkzeug")
    assert not subject("werkzeug").report(checks=["endings", "framing"]).violations

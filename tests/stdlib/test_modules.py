"""Whatever the interpreter tests with the standard ``socketserver`` gives the same results with ours."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.stdlib._judge import compare, run_side_by_side

QUICK = 120.0  # seconds: seldom more than five, but three runs share a machine that may be busy
SLOW = 540.0


def module(name: str, *, slow: bool = False, resources: str = "walltime") -> object:
    limit = SLOW if slow else QUICK
    marks = [pytest.mark.timeout(limit + 60)]
    if slow:
        marks.append(pytest.mark.stdlib_slow)
    return pytest.param(f"test.{name}", resources, limit, id=name, marks=marks)


@pytest.mark.parametrize(
    ("name", "resources", "limit"),
    [
        # Loopback is all it uses, but it asks for the network.
        module("test_socketserver", resources="walltime,network"),
        module("test_httpservers"),
        module("test_docxmlrpc"),
        module("test_wsgiref"),
        module("test_urllib2_localnet"),
        module("test_pydoc"),
        module("test_httplib"),
        module("test_asyncio.test_events"),
        module("test_asyncio.test_streams"),
        module("test_xmlrpc", slow=True),
        module("test_logging", slow=True),
        module("test_imaplib", slow=True),
        module("test_ssl", slow=True),
    ],
)
def test_same_results(target: str, tmp_path: Path, name: str, resources: str, limit: float) -> None:
    if find_spec("test") is None or find_spec(name) is None:
        pytest.skip(f"this interpreter was installed without {name}")
    standard, *ours = run_side_by_side(target, name, tmp_path, resources=resources, limit=limit)

    differences = [difference for run in ours for difference in compare(standard, run)]

    assert not differences, "\n\n".join(differences)
    assert standard.end is not None
    assert standard.end["file"] == _file_of("socketserver")
    for run in ours:
        assert run.end is not None
        assert run.end["file"] == _file_of(target), f"{run.label} did not run on {target}"


def _file_of(name: str) -> str | None:
    spec = find_spec("socketserver" if name == "same_again" else name)
    return spec.origin if spec else None

"""The interpreter's own test modules, run on the module under test.

``pytest tests/stdlib`` runs the quick ones, ``pytest tests/stdlib -m stdlib_slow`` the slow ones (minutes), and
``-m "stdlib_slow or not stdlib_slow"`` all of them. SERVERTEST_UNDER_TEST names another module to put under test.
"""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow ones out unless ``-m`` speaks of them. Deselected, not skipped: nothing stopped them from running."""
    if "stdlib_slow" in config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("stdlib_slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def target() -> str:
    return os.environ.get("SERVERTEST_UNDER_TEST", "servertest.servers")

"""For the whole suite: the tests of the plugin run pytest inside pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Test ids have to be the same in each process, or the tests cannot be shared out, nor be named again. Slow ones are left out unless asked for."""
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid}: an address in memory is no name; give the parameter an id"
            )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Whoever goes to another directory comes back: the next test's paths count from here."""
    yield
    here, there = item.config.invocation_params.dir, os.getcwd()
    os.chdir(here)
    assert there == str(here), f"the test has left the process in {there}"

"""For the whole suite: the tests of the plugin run pytest inside pytest."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test ids have to be the same in each process, or the tests cannot be shared out, nor be named again."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(
                f"{item.nodeid}: an address in memory is no name; give the parameter an id"
            )

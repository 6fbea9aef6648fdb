"""What holds for the repository as a whole."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave lint, types and layers to `make check`, which asks for them with ``-m quality``."""
    if "quality" in config.option.markexpr:
        return
    gates = [item for item in items if item.get_closest_marker("quality")]
    if gates:
        config.hook.pytest_deselected(items=gates)
        items[:] = [item for item in items if item not in gates]

"""For the whole suite: the tests of the plugin run pytest inside pytest."""

from __future__ import annotations

pytest_plugins = ["pytester"]

"""The pytest plugin: fixtures, options and reports. It holds no logic and imports late."""

from __future__ import annotations

"""Measuring what a server process and its forked children run, when the test's process is being measured.

Each process writes a data file of its own beside the test's, with a suffix, as `coverage combine` and pytest-cov
expect it. Forked children end with `os._exit`, which runs no exit handlers: while coverage is on, that function
saves the data first.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Measurement", "measurement_options")

#: What is taken over from the test's process; not "patch" and "concurrency", which are about starting other processes.
_OPTIONS = (
    "run:branch",
    "run:context",
    "run:core",
    "run:cover_pylib",
    "run:disable_warnings",
    "run:dynamic_context",
    "run:include",
    "run:omit",
    "run:plugins",
    "run:relative_files",
    "run:source",
    "run:source_dirs",
    "run:source_pkgs",
    "run:timid",
)


def measurement_options() -> dict[str, Any] | None:
    """How this process is being measured, as plain data; None if it is not (and then coverage is not even imported)."""
    coverage = sys.modules.get("coverage")
    current = None if coverage is None else coverage.Coverage.current()
    if current is None:
        return None
    options = {}
    for name in _OPTIONS:
        try:
            options[name] = current.get_option(name)
        except Exception:  # noqa: BLE001, S112 - its ConfigError: that version has no such option
            continue
    # As the user spelt it, so that the suffix is added to the right name; absolute, because a server may change directory.
    options["run:data_file"] = os.path.abspath(str(current.get_option("run:data_file")))
    return options


class Measurement:
    """Coverage of this process and of those forked from it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._coverage: Any = None
        self._exit = os._exit

    def start(self) -> None:
        """Begin. Processes that this one forks go on measuring: coverage.py notices, and gives them files of their own."""
        import coverage

        self._coverage = coverage.Coverage(
            data_file=self._options["run:data_file"], data_suffix=True, config_file=False, messages=False
        )
        for name, value in self._options.items():
            if name != "run:data_file":
                self._coverage.set_option(name, value)
        # A process that runs nothing of what is measured is no reason for a warning in a test.
        self._coverage.set_option(
            "run:disable_warnings", ["no-data-collected", "module-not-imported", "module-not-measured"]
        )
        self._coverage.start()
        os._exit = self._save_and_exit

    def save(self) -> None:
        """Stop, and write the data file."""
        self._coverage.stop()
        self._coverage.save()

    def _save_and_exit(self, status: int) -> NoReturn:
        try:
            self.save()
        finally:
            self._exit(status)

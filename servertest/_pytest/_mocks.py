"""The fixtures `mock_server`, `make_mock_server` and `recorded_server`, and what a failing test shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .._support import HandlerFailed, StillRunning
from ..launch import Kind
from ..mocks import Extending, MockFailed, MockServer, Recording, RecordMode, recorded

__all__ = ("MakeMockServer", "RecordedServers", "mock_sections")

#: A failing test shows its own line, not ours.
__tracebackhide__ = True


class MakeMockServer:
    """Makes mock servers and, at the end of the test, stops them. Call it as you would `servertest.mocks.MockServer`."""

    def __init__(self, timeout: float, seed: int, note: Callable[[MockServer], object]) -> None:
        self._timeout = timeout
        self._seed = seed
        self._note = note
        self._made: list[MockServer] = []

    @property
    def servers(self) -> tuple[MockServer, ...]:
        """The servers made so far, in that order."""
        return tuple(self._made)

    def __call__(self, kind: str | Kind = "tcp", **options: Any) -> MockServer:
        """Make one: it serves when this returns."""
        options = {"timeout": self._timeout, "seed": self._seed, **options}
        mock = MockServer(kind, **options)
        self._made.append(mock)
        self._note(mock)
        return mock

    def close(self, *, failed: bool = False) -> list[Exception]:
        """Stop all of them, the last one first.

        Args:
            failed: Whether the test has failed already, and has shown what there is to complain of.

        Returns:
            What went wrong.
        """
        complaints: list[Exception] = []
        for mock in reversed(self._made):
            try:
                mock.stop()
            except MockFailed as failure:
                if not failed:
                    complaints.append(failure)
            except (HandlerFailed, StillRunning) as failure:
                complaints.append(failure)
        return complaints


class RecordedServers:
    """Servers that answer from files, or are recorded; see `servertest.mocks.recorded`.

    Attributes:
        mode: "none", "once", "new" or "all".
    """

    def __init__(self, directory: Path, mode: RecordMode, note: Callable[[MockServer], object]) -> None:
        self.mode = mode
        self._directory = directory
        self._note = note
        self._made: list[MockServer | Recording | Extending] = []

    def __call__(
        self, file: str | Path, upstream: Any = None, **options: Any
    ) -> MockServer | Recording | Extending:
        """One server.

        Args:
            file: The recording; a relative path begins at the test's directory.
            upstream: The real server, its address, or a function that returns either and is called only to record.
            options: As for `servertest.mocks.recorded`: match, timing, repeat, framing, scrub, tls, ...
        """
        server = recorded(self._directory / file, upstream, mode=options.pop("mode", self.mode), **options)
        self._made.append(server)
        mock = server.mock if isinstance(server, Extending) else server
        if isinstance(mock, MockServer):
            self._note(mock)
        return server

    def close(self, *, failed: bool = False) -> list[Exception]:
        """Stop all of them; what was recorded in a test that failed is not written.

        Args:
            failed: Whether the test has failed already.

        Returns:
            What went wrong.
        """
        complaints: list[Exception] = []
        for server in reversed(self._made):
            try:
                if isinstance(server, MockServer):
                    server.stop()
                else:
                    server.stop(write=not failed)
            except MockFailed as failure:
                if not failed:
                    complaints.append(failure)
            except (HandlerFailed, StillRunning, OSError) as failure:
                complaints.append(failure)
        return complaints


def mock_sections(mocks: Iterable[MockServer]) -> list[tuple[str, str]]:
    """Title and text for each mock server of a failed test: how far its script got."""
    return [(f"servertest {mock}", mock.problems or mock.status()) for mock in mocks if mock.running.running]

"""Replay what was recorded, and record what was not: the modes that users of vcrpy know."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

from .._support import UsageError, family_of
from ..clients import connect
from ..transcript import Close, Event, Note, dump_wire, load_exchanges
from ._record import Recording, origin, record, without_addresses, write_whole
from ._replay import Matching, Timing, replay
from ._scrub import Scrubbing, scrub_events
from ._server import MockServer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..clients import DatagramClient
    from ..proxy import Link
    from ..transcript import Framing, Transcript

__all__ = ("Extending", "RecordMode", "recorded")

RecordMode: TypeAlias = Literal["none", "once", "new", "all"]
"""Never record; record what there is no file for; record connections that the file does not have; record everything anew."""


def recorded(
    file: str | os.PathLike[str],
    upstream: Any = None,
    *,
    mode: RecordMode = "once",
    match: Matching = "strict",
    timing: Timing = "none",
    repeat: bool = False,
    framing: Framing | None = None,
    scrub: Scrubbing = (),
    times: bool = True,
    tls: Any = None,
    upstream_tls: Any = None,
    transport: Any = None,
) -> MockServer | Recording | Extending:
    """A server that answers from a file, or, if the mode says so, a proxy to the real one that writes the file.

    Args:
        file: The `.wire` file.
        upstream: The real server: one that was launched, an address, or a function that returns either, and is called only
            when something is to be recorded. None if there is none here.
        mode: "none", "once", "new" or "all".
        match: As for `replay`.
        timing: As for `replay`.
        repeat: As for `replay`.
        framing: As for `replay`.
        scrub: As for `record`; what was scrubbed may be anything when it is replayed.
        times: As for `record`.
        tls: How clients speak TLS with whatever this is.
        upstream_tls: How the proxy speaks TLS with the real server.
        transport: "stream" or "datagram", for a recording.

    Raises:
        UsageError: There is no file and nothing may be recorded, or no server to be recorded.
        OSError: The file cannot be read.
    """
    path = Path(file)
    if mode not in get_args(RecordMode):
        raise UsageError(f"the mode of recording is one of {', '.join(get_args(RecordMode))}, not {mode!r}")
    scrub = tuple(scrub)
    if mode == "all" or (mode != "none" and not path.exists()):
        server = _server(upstream, path)
        transport = transport or getattr(getattr(server, "kind", None), "transport", None)
        return record(
            server, path, scrub=scrub, times=times, tls=tls, upstream_tls=upstream_tls, transport=transport
        )
    if not path.exists():
        raise UsageError(
            f"there is no recording {path}, and nothing is recorded in the mode {mode!r}: run once with --servertest-record=once"
        )
    if mode == "new":
        return Extending(path, upstream, match, repeat, framing, scrub, timing, times, tls, upstream_tls)
    return replay(path, match=match, timing=timing, repeat=repeat, framing=framing, scrub=scrub, tls=tls)


def _server(upstream: Any, path: Path) -> Any:
    if upstream is None:
        raise UsageError(
            f"{path} is to be recorded, and no upstream was given: the real server, or its address"
        )
    return upstream() if callable(upstream) and not hasattr(upstream, "address") else upstream


class Extending:
    """Replays the connections that a file has, and records those that it does not have; of datagrams, the peers.

    Attributes:
        mock: What replays.
        file: The file.
    """

    def __init__(
        self,
        file: Path,
        upstream: Any,
        match: Matching,
        repeat: bool,
        framing: Framing | None,
        scrub: Scrubbing,
        timing: Timing,
        times: bool,
        tls: Any,
        upstream_tls: Any,
    ) -> None:
        if match != "strict" or repeat:
            raise UsageError(
                "record: the mode 'new' is about connections, one after the other: it goes with match='strict', without repeat"
            )
        conversations = load_exchanges(file, side="server")
        self.file = file
        self._known = len(conversations)
        self._highest = max((conversation.number for conversation in conversations), default=0)
        self._upstream = upstream
        self._upstream_tls = upstream_tls
        self._scrub = scrub
        self._times = times
        self._link: Link | None = None
        self._reached: Any = None
        self._stopped = False
        self.mock = replay(file, timing=timing, framing=framing, scrub=scrub, tls=tls)
        self.mock.beyond = self._reach

    def __repr__(self) -> str:
        return f"<Extending {self.file}: {self._known} conversations, {len(self._new)} new>"

    @property
    def address(self) -> Any:
        """Where clients reach it."""
        return self.mock.address

    @property
    def host(self) -> str:
        """The host of its address."""
        return self.mock.host

    @property
    def port(self) -> int:
        """The port of its address."""
        return self.mock.port

    @property
    def path(self) -> str:
        """The path of its Unix socket."""
        return self.mock.path

    @property
    def transcript(self) -> Transcript:
        """What has passed, secrets included."""
        return self.mock.transcript

    def connect(self, **options: Any) -> Any:
        """A client that is connected to it, as of `Running.connect`."""
        return self.mock.connect(**options)

    def _reach(self) -> socket.socket | DatagramClient:
        """A way to the real server, for a connection or a peer that the file does not have."""
        from ..proxy import link

        transport = self.mock.setting.transport
        with self.mock.setting.lock:
            if self._link is None:
                self._reached = _server(self._upstream, self.file)
                self._link = link(
                    self._reached,
                    upstream_tls=self._upstream_tls,
                    transport=transport,
                    transcript=False,
                )
        address: Any = self._link.address
        if transport == "datagram":
            return connect(address, transport=transport)
        sock = socket.socket(family_of(address))
        sock.settimeout(5)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def _new(self) -> list[int]:
        return [one.number for one in self.mock.transcript.connections if one.number > self._known]

    def stop(self, *, write: bool = True) -> None:
        """Stop it, and add to the file what was recorded. The second time nothing happens.

        Args:
            write: Whether to write at all.

        Raises:
            MockFailed: The connections that the file has were not played as it says.
            OSError: The file cannot be written.
        """
        if self._stopped:
            return
        self._stopped = True
        with contextlib.ExitStack() as stack:
            if self._link is not None:
                stack.callback(self._link.stop)
            self.mock.stop()
        if write and self._new:
            self._append(event for event in self.mock.transcript.events if event.connection in self._new)

    def _append(self, events: Iterable[Event]) -> None:
        shift = self._highest - self._known
        kept = [
            replace(event, connection=event.connection + shift)
            for event in events
            if not isinstance(event, Note) and not (isinstance(event, Close) and event.how == "forced")
        ]
        added = dump_wire(without_addresses(scrub_events(kept, self._scrub)), times=self._times)
        heading = f"# recorded from {origin(self._reached, self._link) if self._link else 'the same'}"
        text = self.file.read_text(encoding="utf-8").rstrip("\n")
        write_whole(self.file, [text, "\n", heading, "\n", added.removeprefix("wire 1\n")])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(write=error is None)

"""A proxy that writes down what passes, for `replay`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._support import DeadlineExceeded, format_address
from ..launch import Running
from ..transcript import Close, Connect, Datagram, Event, Note, Transcript, write_wire
from ._scrub import Scrubbing, scrub_events, scrubs_of

if TYPE_CHECKING:
    from .._support import Address
    from ..proxy import Link

__all__ = ("Recording", "record", "write_recording")

#: What is kept in memory until it is written: a recording with gaps could not be replayed.
_LIMITS: dict[str, int] = {
    "max_bytes": 1 << 40,
    "max_events": 1 << 40,
    "max_connections": 1 << 40,
    "max_total_bytes": 1 << 40,
}

#: Seconds that connections get to end by themselves before a recording is cut off: the last answer may be under way.
_MOMENT = 0.25


def record(
    upstream: Any,
    file: str | os.PathLike[str],
    *,
    scrub: Scrubbing = (),
    times: bool = True,
    addresses: bool = False,
    **settings: Any,
) -> Recording:
    """An address that leads to a server, and writes down what passes; as a context manager, until the end of the block.

    Args:
        upstream: The server: one that was launched, or an address.
        file: The `.wire` file that is written at the end; an older one is replaced.
        scrub: What is not to be written down: patterns over bytes, `Scrub` values, or names of `SECRETS`.
        times: Whether to write when it happened. Without, the same conversation gives the same file again.
        addresses: Whether to write the clients' addresses, which are others each time.
        settings: As for `servertest.proxy.link`: listen, transport, tls, upstream_tls, ...

    Raises:
        UsageError: Something cannot be; the message names the argument.
        AddressInUse: Something else holds the address.
    """
    from ..proxy import link

    scrubs_of(scrub)  # what cannot be scrubbed must not be recorded
    made = link(upstream, transcript=Transcript(**_LIMITS), **settings)
    return Recording(made, Path(file), tuple(scrub), upstream=upstream, times=times, addresses=addresses)


class Recording:
    """A recording that is being made; see `record`.

    Attributes:
        file: Where it is written.
        link: The link that clients come through.
    """

    def __init__(
        self,
        link: Link,
        file: Path,
        scrub: Scrubbing,
        *,
        upstream: Any = None,
        times: bool = True,
        addresses: bool = False,
    ) -> None:
        self.link = link
        self._upstream = upstream
        self.file = file
        self._scrub = scrub
        self._times = times
        self._addresses = addresses
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Recording of {format_address(self.link.upstream)} into {self.file}{', stopped' * self._stopped}>"

    @property
    def address(self) -> Address:
        """Where clients reach it."""
        return self.link.address

    @property
    def host(self) -> str:
        """The host of its address."""
        return self.link.host

    @property
    def port(self) -> int:
        """The port of its address."""
        return self.link.port

    @property
    def path(self) -> str:
        """The path of its Unix socket."""
        return self.link.path

    @property
    def transcript(self) -> Transcript:
        """What has passed, secrets included."""
        assert self.link.transcript is not None
        return self.link.transcript

    def connect(self, **options: Any) -> Any:
        """A client that is connected to it, as of `Link.connect`."""
        return self.link.connect(**options)

    def stop(self, *, write: bool = True) -> None:
        """Stop it and write the file. The second time nothing happens.

        Args:
            write: Whether to write at all: half a recording is worse than none.

        Raises:
            OSError: The file cannot be written.
        """
        if self._stopped:
            return
        self._stopped = True
        with contextlib.suppress(DeadlineExceeded):
            self.transcript.wait_idle(timeout=_MOMENT)
        self.link.stop()
        if write:
            heading = f"recorded from {origin(self._upstream, self.link)}"
            write_recording(
                self.file,
                self.transcript.events,
                self._scrub,
                heading,
                times=self._times,
                addresses=self._addresses,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(write=error is None)


def origin(upstream: Any, link: Link) -> str:
    """Where a recording comes from; of a server that was launched not its address, which is another one each time."""
    if isinstance(upstream, Running):
        return f"{upstream.target.name} as {upstream.kind}"
    return format_address(link.upstream)


def write_recording(
    file: Path,
    events: Iterable[Event],
    scrub: Scrubbing = (),
    heading: str = "",
    *,
    times: bool = True,
    addresses: bool = False,
) -> None:
    """Write events as a file for `replay`: without secrets, whole or not at all.

    Args:
        file: Where; directories are made.
        events: What passed.
        scrub: What is not to be written down.
        heading: A comment for its first line.
        times: Whether to write when it happened.
        addresses: Whether to write the clients' addresses.

    Raises:
        OSError: It cannot be written.
    """
    cleaned = scrub_events((event for event in events if not isinstance(event, Note)), scrub)
    if not addresses:
        cleaned = without_addresses(cleaned)
    # A connection that the recording itself has cut off did not end: its end is not for the replay.
    cleaned = [event for event in cleaned if not (isinstance(event, Close) and event.how == "forced")]
    text = io.StringIO()
    if heading:
        text.write(f"# {heading}\n")
    write_wire(cleaned, text, times=times)
    write_whole(file, [text.getvalue()])


def write_whole(file: Path, parts: Iterable[str]) -> None:
    """Write a file whole, or not at all.

    Raises:
        OSError: It cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.writelines(parts)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def without_addresses(events: Iterable[Event]) -> list[Event]:
    """The events without the addresses of clients, which are others each time."""
    return [_without_address(event) for event in events]


def _without_address(event: Event) -> Event:
    if isinstance(event, Connect):
        return replace(event, client=None, server=None)
    if isinstance(event, Datagram):
        return replace(event, address=None)
    return event

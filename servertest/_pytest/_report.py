"""What a failing test shows of its servers, and how a server is kept up for a look by hand."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from .._support import DeadlineExceeded, format_address
from ..launch._dump import hang_dump

if TYPE_CHECKING:
    import pytest

    from ..launch import Running

__all__ = ("keep_serving", "print_hang", "sections", "start_alarm", "start_timer")

#: Seconds that the report of a failed test waits for connections to end.
_MOMENT = 0.2


def sections(servers: Iterable[Running]) -> list[tuple[str, str]]:
    """Title and text for each server of a failed test: what passed."""
    found = []
    for running in servers:
        _settle(running)
        if running.transcript is not None and running.transcript.events:
            found.append((f"servertest transcript of {running}", running.transcript.render()))
        if running.fault_report:
            found.append((f"servertest faults of {running}", running.fault_report))
        if running.output:
            found.append((f"output of {running}", running.output))
    return found


def _settle(running: Running) -> None:
    """Let the server note what it was doing when the test failed: what it has sent is written down after it was sent."""
    if running.transcript is not None and running.running:
        try:
            running.transcript.wait_idle(timeout=_MOMENT)
        except DeadlineExceeded:
            pass  # a connection is still open: shown as it is


def print_hang(servers: Sequence[Running], stream: TextIO) -> None:
    """All that is known about what hangs, for a process that is about to be ended."""
    for running in servers:
        if running.running:
            print(running.dump(), file=stream)
    print(hang_dump("this process, when the time was up"), file=stream)
    stream.flush()


def start_alarm(
    item: pytest.Item, seconds: float, servers: Sequence[Running], end: Callable[[], object]
) -> None:
    """pytest-timeout's timer for its "signal" method, which fails the test: ours notes first what the servers are doing."""

    def expire(number: int, frame: object) -> None:
        __tracebackhide__ = True
        for running in servers:
            if running.running:
                item.add_report_section("call", f"servertest dump of {running}", running.dump())
        end()

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks for it
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def start_timer(
    item: pytest.Item, seconds: float, servers: Sequence[Running], end: Callable[[], object]
) -> None:
    """pytest-timeout's timer for its "thread" method, which ends the process: ours says first what the servers were doing."""

    def expire() -> None:
        try:
            print_hang(servers, sys.__stderr__ or sys.stderr)
        finally:
            end()

    timer = threading.Timer(seconds, expire)
    timer.name = f"pytest_timeout {item.nodeid}"  # the name by which others know it
    timer.daemon = True

    def cancel() -> None:
        timer.cancel()
        timer.join()

    item.cancel_timeout = cancel  # type: ignore[attr-defined]  # where pytest-timeout looks for it
    timer.start()


def keep_serving(item: pytest.Item, servers: Sequence[Running]) -> None:
    """Print how to reach the servers of a failed test, and wait until a line is entered, or the input ends."""
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    try:
        writer = item.config.get_terminal_writer()
        writer.line()
        writer.sep("=", f"servertest: {item.nodeid} failed, its servers are kept up", yellow=True)
        for running in servers:
            writer.line(f"{running.kind} serves {running.target.name} on {_how_to_reach(running)}")
        writer.line("Press Enter to go on.")
        writer.flush()
        try:
            if not sys.stdin.readline():
                writer.line("There is no input to wait for: going on.")
        except (OSError, KeyboardInterrupt):
            pass  # no input to read from, or the other way of saying "go on"
    finally:
        if capture is not None:
            capture.resume_global_capture()


def _how_to_reach(running: Running) -> str:
    address = running.address
    where = format_address(address)
    if running.kind.tls:
        how = f"-connect {where}" if isinstance(address, tuple) else f"-unix {where}"
        return f"{where}, with TLS    (for example: openssl s_client {how})"
    if not isinstance(address, tuple):
        prefix = "ABSTRACT-CONNECT" if where.startswith("@") else "UNIX-CONNECT"
        return f"{where}    (for example: socat - {prefix}:{where.lstrip('@')})"
    option = "-u " if running.kind.transport == "datagram" else ""
    return f"{where}    (for example: nc {option}{running.host} {running.port})"

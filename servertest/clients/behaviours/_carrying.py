"""How single clients carry a course on: written once as steps, waited for in a thread or on an event loop."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ..._support import UsageError, format_address
from .._dial import dial_datagram, dial_stream
from .._own_name import OwnName
from .._steps import Operation
from ._behaviour import behaviour
from ._course import Course, Role

if TYPE_CHECKING:
    import socket
    import ssl

    from ..._support import Address, Transport
    from .._steps import Steps
    from ._behaviour import Behaving, Behaviour

__all__ = ("Carrying", "Dialled", "Need", "dial", "make_role", "poll_once", "steps")

_ENDED = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)


class Need(NamedTuple):
    """What a course waits for: readiness, at most until a time."""

    sock: socket.socket
    reads: bool
    writes: bool
    ends: bool
    seconds: float


Carrying: TypeAlias = Generator[Need, tuple[bool, bool], None]
"""Gives what it waits for, and is sent whether there is something to read, and whether the peer has ended."""


def steps(course: Course, seconds: float) -> Carrying:
    """Carry a course on for so many seconds, or until it is over."""
    until = time.monotonic() + seconds
    if not course.is_over():
        course.advance(time.monotonic())
    while not course.is_over():
        now = time.monotonic()
        if now >= until:
            return
        wake_at = until if course.wake_at is None else min(course.wake_at, until)
        readable, ended = yield Need(
            course.sock, course.reads, course.writes, course.is_deaf, max(0.0, wake_at - now)
        )
        now = time.monotonic()
        if readable or ended or course.writes:
            course.ready(now, readable=readable, ended=ended)
        elif course.wake_at is not None and course.wake_at <= now:
            course.advance(now)


def poll_once(need: Need) -> tuple[bool, bool]:
    """Wait in this thread."""
    if not hasattr(select, "poll"):
        socks = [need.sock]
        readable, _, failed = select.select(
            socks if need.reads else [], socks if need.writes else [], socks, need.seconds
        )
        return bool(readable), bool(failed)
    poller = select.poll()
    mask = (select.POLLIN if need.reads else 0) | (select.POLLOUT if need.writes else 0)
    if mask or need.ends:
        # One who neither reads nor writes for now is not asked: an end would wake it again and again.
        poller.register(need.sock, mask | (getattr(select, "POLLRDHUP", 0) if need.ends else 0))
    events = poller.poll(int(need.seconds * 1000 + 0.999))
    happened = events[0][1] if events else 0
    return bool(happened & select.POLLIN), bool(happened & _ENDED)


def make_role(
    wanted: Behaving,
    transport: Transport,
    seed: int | str,
    tls: ssl.SSLContext | None,
    server_hostname: str | None,
) -> tuple[Behaviour, Role]:
    """What a single client is to do.

    Raises:
        UsageError: It makes no sense there.
    """
    chosen = behaviour(wanted)
    chosen.check(transport, tls=tls is not None)
    if tls is not None and transport == "datagram":
        raise UsageError("datagrams are not sent over TLS here")
    return chosen, Role(chosen.script(transport), seed, transport, tls, server_hostname, keeps=True)


@dataclass(slots=True)
class Dialled:
    """A socket that is connected.

    Attributes:
        sock: It does not block.
        name: Its own name, where it needed one.
    """

    sock: socket.socket
    name: OwnName | None = None

    def begin(self, role: Role, number: int) -> Course:
        """Play a role on it."""
        kind: Callable[..., Course] = Course
        if role.tls is not None:
            from ._secure_course import SecureCourse

            kind = SecureCourse
        return kind(role, number, self.sock, time.monotonic())


def dial(address: Address, role: Role, source: Address | None) -> Operation[Dialled]:
    """Open the connection, with the window that the script asks for."""
    steps = _dial_stream if role.transport == "stream" else _dial_datagram
    return Operation(steps(address, role, source), f"a connection to {format_address(address)}")


def _dial_stream(address: Address, role: Role, source: Address | None) -> Steps[Dialled]:
    return Dialled((yield from dial_stream(address, source, window=role.script.window).steps))


def _dial_datagram(address: Address, role: Role, source: Address | None) -> Steps[Dialled]:
    name = OwnName(source, reachable=True)
    try:
        sock, _ = yield from dial_datagram(address, name, True)
    except BaseException:
        name.take_back()
        raise
    return Dialled(sock, name)

"""A transcript as a capture file (pcapng) that Wireshark and its friends read.

A transcript knows what was said, and nothing of packets. So these are made up: for each connection a handshake, segments with
right sequence numbers and checksums, acknowledgements, and its end; for each datagram a UDP packet. Addresses that are not of the
Internet, or not known, are replaced by some of RFC 5737 (192.0.2.0/24). The format is draft-ietf-opsawg-pcapng-02; the link type is
raw IP.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ._events import Close, Connect, Data, Datagram, Direction, Event, Failure, Gap, HalfClose, Note, Side

__all__ = ("write_pcapng",)

_RAW_IP = 101
_COMMENT = 1

_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16

#: Bytes of one segment: less than fit into an IPv4 packet.
_SEGMENT = 32_768
_LARGEST_DATAGRAM = 65_507
_WINDOW = 65_535

#: Where a connection is said to come from and to go to, if that is not known.
_CLIENT, _SERVER = "192.0.2.1", "192.0.2.2"
_FIRST_PORT, _UNKNOWN_PORT = 49_152, 9_999


def write_pcapng(
    events: Iterable[Event], file: BinaryIO, *, began: float = 0.0, server_port: int | None = None
) -> None:
    """Write events as a capture file, one by one.

    Notes, failures and ends that are no packets stand as comments: on acknowledgements that only change the window, or on the next datagram. Bytes that were not kept are missing
    in the capture, as if it had lost them.

    Args:
        events: The events, in the order in which they happened.
        file: Where to write, opened in binary mode.
        began: When the transcript began, in seconds since 1970: its times count from there.
        server_port: The port that servers are said to have, so that Wireshark knows the protocol; as recorded by default.
    """
    file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(_block(1, struct.pack("<HHI", _RAW_IP, 0, 0)))
    flows: dict[int, _Flow] = {}
    for event in events:
        number = event.connection
        if isinstance(event, Connect) or number not in flows:
            flows[number] = _Flow.of(event, number, server_port)
        moment = max(0, round((began + event.time) * 1_000_000))
        for packet, comment in flows[number].packets(event):
            file.write(_packet_block(packet, moment, comment))
    for flow in flows.values():
        if flow.unsaid:
            file.write(_block(5, struct.pack("<III", 0, 0, 0) + _comment("; ".join(flow.unsaid))))


def _block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _packet_block(packet: bytes, moment: int, comment: str) -> bytes:
    body = struct.pack("<IIIII", 0, moment >> 32, moment & 0xFFFFFFFF, len(packet), len(packet))
    body += packet + bytes(-len(packet) % 4)
    return _block(6, body + _comment(comment))


def _comment(comment: str) -> bytes:
    if not comment:
        return b""
    text = comment.encode("utf-8", "replace")[:60_000]
    return struct.pack("<HH", _COMMENT, len(text)) + text + bytes(-len(text) % 4) + bytes(4)


@dataclass(slots=True)
class _End:
    """One side of a conversation."""

    address: bytes
    port: int
    sequence: int = 0
    finished: bool = False
    window: int = _WINDOW


@dataclass(slots=True)
class _Flow:
    """A conversation whose packets are made up."""

    client: _End
    server: _End
    is_open: bool = False
    over: bool = False
    unsaid: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, event: Event, number: int, server_port: int | None) -> _Flow:
        """The flow for a conversation, given its first event."""
        if isinstance(event, Connect):
            client, server = _internet(event.client), _internet(event.server)
        else:
            client, server = _internet(getattr(event, "address", None)), None
        if client is None or (server is not None and len(client[0]) != len(server[0])):
            client = (ipaddress.ip_address(_CLIENT).packed, _FIRST_PORT + number % (65_536 - _FIRST_PORT))
            server = None
        if server is None:
            six = len(client[0]) == 16
            server = (ipaddress.ip_address("2001:db8::2" if six else _SERVER).packed, _UNKNOWN_PORT)
        # Sequence numbers that differ, so that one flow is not taken for another's repetition.
        return cls(
            _End(client[0], client[1], 1000 * number),
            _End(server[0], server[1] if server_port is None else server_port, 1000 * number + 500),
        )

    def packets(self, event: Event) -> Iterator[tuple[bytes, str]]:
        """The packets that stand for an event, each with a comment or none."""
        if isinstance(event, (Note, Failure)):
            if self.is_open:
                yield self._remark(), _words(event)
            else:
                self.unsaid.append(_words(event))
        elif isinstance(event, Datagram):
            packet, comment = self._datagram(event)
            yield packet, "; ".join(filter(None, [*self.unsaid, comment]))
            self.unsaid.clear()
        else:
            yield from ((packet, "") for packet in self._begin())
            yield from self._stream(event)

    def _stream(self, event: Event) -> Iterator[tuple[bytes, str]]:
        if isinstance(event, Data):
            yield from ((packet, "") for packet in self._data(event.direction, event.data))
        elif isinstance(event, Gap):
            self._sender(event.direction).sequence += event.size
        elif isinstance(event, HalfClose):
            yield from ((packet, "") for packet in self._finish(event.by))
        elif isinstance(event, Close):
            yield from self._close(event)

    def _begin(self) -> Iterator[bytes]:
        if self.is_open:
            return
        self.is_open = True
        yield self._segment(self.client, _SYN)
        self.client.sequence += 1
        yield self._segment(self.server, _SYN | _ACK)
        self.server.sequence += 1
        yield self._segment(self.client, _ACK)

    def _data(self, direction: Direction, data: bytes) -> Iterator[bytes]:
        sender = self._sender(direction)
        for start in range(0, len(data), _SEGMENT):
            piece = data[start : start + _SEGMENT]
            yield self._segment(sender, _PSH | _ACK, piece)
            sender.sequence += len(piece)
            yield self._segment(self._other(sender), _ACK)

    def _finish(self, by: Side) -> Iterator[bytes]:
        sender = self.client if by == "client" else self.server
        if sender.finished or self.over:
            return
        sender.finished = True
        yield self._segment(sender, _FIN | _ACK)
        sender.sequence += 1
        yield self._segment(self._other(sender), _ACK)

    def _close(self, event: Close) -> Iterator[tuple[bytes, str]]:
        if event.how == "fin":
            first: Side = event.by or "server"
            for side in (first, "server" if first == "client" else "client"):
                yield from ((packet, "") for packet in self._finish(side))
        elif event.how == "rst" and event.by is not None:
            sender = self.client if event.by == "client" else self.server
            yield self._segment(sender, _RST | _ACK), ""
        else:
            comment = {
                "rst": "reset, by whom is not known",
                "timeout": "given up by the system (timeout)",
            }.get(event.how, "closed by force")
            yield self._remark(), comment
        self.over = True

    def _datagram(self, event: Datagram) -> tuple[bytes, str]:
        sender = self._sender(event.direction)
        receiver = self._other(sender)
        data = event.data[:_LARGEST_DATAGRAM]
        comment = (
            f"{len(event.data):,} bytes, of which UDP can hold these" if len(data) < len(event.data) else ""
        )
        head = struct.pack(">HHHH", sender.port, receiver.port, 8 + len(data), 0)
        checksum = _checksum(_pseudo(sender, receiver, 17, 8 + len(data)) + head + data) or 0xFFFF
        return _ip(sender, receiver, 17, head[:6] + struct.pack(">H", checksum) + data), comment

    def _remark(self) -> bytes:
        """A packet for a comment: an acknowledgement with another window, for a mere repetition would look like a loss."""
        self.server.window = self.server.window - 1 or _WINDOW
        return self._segment(self.server, _ACK)

    def _segment(self, sender: _End, flags: int, data: bytes = b"") -> bytes:
        receiver = self._other(sender)
        acknowledged = receiver.sequence if flags & _ACK else 0
        head = struct.pack(
            ">HHIIBBHHH",
            sender.port,
            receiver.port,
            sender.sequence & 0xFFFFFFFF,
            acknowledged & 0xFFFFFFFF,
            5 << 4,
            flags,
            sender.window,
            0,
            0,
        )
        checksum = _checksum(_pseudo(sender, receiver, 6, len(head) + len(data)) + head + data)
        return _ip(sender, receiver, 6, head[:16] + struct.pack(">H", checksum) + head[18:] + data)

    def _sender(self, direction: Direction) -> _End:
        return self.client if direction == "upstream" else self.server

    def _other(self, end: _End) -> _End:
        return self.server if end is self.client else self.client


def _words(event: Note | Failure) -> str:
    return event.text if isinstance(event, Note) else f"{event.where}: {event.type_name}: {event.message}"


def _internet(address: Any) -> tuple[bytes, int] | None:
    """An Internet address in bytes, and its port; None if it is something else."""
    match address:
        case (str() as host, int() as port, *_) if 0 <= port <= 65_535:
            try:
                return ipaddress.ip_address(host.partition("%")[0]).packed, port
            except ValueError:
                return None
    return None


def _pseudo(sender: _End, receiver: _End, protocol: int, size: int) -> bytes:
    if len(sender.address) == 16:
        return sender.address + receiver.address + struct.pack(">IHBB", size, 0, 0, protocol)
    return sender.address + receiver.address + struct.pack(">BBH", 0, protocol, size)


def _ip(sender: _End, receiver: _End, protocol: int, body: bytes) -> bytes:
    if len(sender.address) == 16:
        head = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
        return head + sender.address + receiver.address + body
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0)
    checksum = _checksum(head + sender.address + receiver.address)
    return head[:10] + struct.pack(">H", checksum) + sender.address + receiver.address + body


def _checksum(data: bytes) -> int:
    """The sum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    # As one long number: the sum of 16-bit words is that number modulo 2**16 - 1.
    total = int.from_bytes(data, "big") % 0xFFFF
    return 0xFFFF - total if total or not any(data) else 0

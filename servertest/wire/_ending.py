"""How a connection will have ended when its descriptor is closed in a moment.

The system decides between FIN and RST by what it knows at that moment, so it is asked just before:

* Received bytes that nobody read make ``close()`` send RST (RFC 1122, 4.2.2.13; on Unix sockets the peer gets
  ECONNRESET instead).
* So does a linger time of zero, on TCP.
* The peer's FIN or RST may have come without the program having looked.
"""

from __future__ import annotations

import importlib.util
import select
import socket
import struct
from array import array
from dataclasses import dataclass

__all__ = ("Ending", "look")

# Windows has neither.
_CAN_ASK = hasattr(select, "poll") and importlib.util.find_spec("fcntl") is not None

# Linux alone reports a FIN that is still behind unread bytes.
_PEER_FINISHED: int = getattr(select, "POLLRDHUP", 0)
_INET = (int(socket.AF_INET), int(socket.AF_INET6))
_ABORT = (1, 0)  # l_onoff, l_linger


@dataclass(frozen=True, slots=True)
class Ending:
    """What the system knows about a connection.

    Attributes:
        reset: The peer has cut it off.
        finished: The peer has finished sending.
        unread: Bytes have come that the program did not take.
        abort: Closing is set to send RST whatever else.
    """

    reset: bool = False
    finished: bool = False
    unread: bool = False
    abort: bool = False


_UNKNOWN = Ending()


def look(sock: socket.socket, *, closing: bool = True) -> Ending:
    """Ask the system about an open socket, without changing what the program will see of it.

    Where it cannot be asked (Windows) nothing is known.

    Args:
        sock: The socket.
        closing: Whether ``close()`` is next; only then does it matter whether it is set to abort.
    """
    if not _CAN_ASK:
        return _UNKNOWN
    poller = select.poll()
    poller.register(sock, select.POLLIN | _PEER_FINISHED)
    found = poller.poll(0)
    state = found[0][1] if found else 0
    if state & select.POLLNVAL:
        # Somebody closed the descriptor behind the socket's back.
        return _UNKNOWN
    abort = closing and _set_to_abort(sock)
    if not state:
        return Ending(abort=True) if abort else _UNKNOWN
    if state & select.POLLERR:
        return Ending(reset=True)
    unread = bool(state & select.POLLIN) and _waiting_bytes(sock) > 0
    # Readable, yet nothing to read: that is an end of file.
    finished = bool(state & _PEER_FINISHED) or (bool(state & select.POLLIN) and not unread)
    return Ending(finished=finished, unread=unread, abort=abort)


def _waiting_bytes(sock: socket.socket) -> int:
    import fcntl
    import termios

    count = array("i", [0])
    try:
        fcntl.ioctl(sock, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]


def _set_to_abort(sock: socket.socket) -> bool:
    # Past the property that looks up the enumeration's member each time.
    if super(socket.socket, sock).family not in _INET:
        return False
    return struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == _ABORT

"""Sockets whose system says nothing any more."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

__all__ = ("fall_silent",)

_SO_ATTACH_FILTER = 26
_RETURN_NOTHING = struct.pack(
    "@HBBI", 0x06, 0, 0, 0
)  # BPF_RET | BPF_K of 0: nothing of a packet is let through


def fall_silent(sock: socket.socket) -> bool:
    """Have the system drop whatever comes to a TCP socket before TCP sees it (SO_ATTACH_FILTER, socket(7)): nothing is acknowledged
    from now on, no keep-alive probe is answered, and neither FIN nor RST of the peer arrives.

    Returns:
        Whether that was possible: on Linux, for TCP.
    """
    if not sys.platform.startswith("linux") or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = ctypes.create_string_buffer(_RETURN_NOTHING)
    # struct sock_fprog: the number of instructions, and where they are.
    where = struct.pack("@HP", 1, ctypes.addressof(program))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, where)
    except OSError:
        return False
    return True

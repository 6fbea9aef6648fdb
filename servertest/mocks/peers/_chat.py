"""A chat of lines: what one client says, all others hear."""

from __future__ import annotations

import threading
from typing import Any

from ._base import Peer

__all__ = ("LineChat",)


class _Room:
    """Who is there, on one server."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.guests: dict[str, Any] = {}
        self.count = 0


class LineChat(Peer):
    """Gives each client a name (``guest1``), and sends each line that it says to all others.

    Lines with a slash are commands: ``/name NAME``, ``/who``, ``/quit``. For servers with threads: whoever forks chats alone.
    """

    def converse(self, sock: Any) -> None:
        """Until the client is done."""
        room: _Room = self.server.__dict__.setdefault("servertest_chat", _Room())
        with room.lock:
            room.count += 1
            name = f"guest{room.count}"
            others = list(room.guests)
            # Nobody says anything to a guest before that.
            sock.sendall(f"* welcome, {name}\r\n".encode())
            room.guests[name] = sock
        try:
            for other in others:
                self._send(room, other, f"* {name} has come")
            with sock.makefile("rb") as lines:
                for line in lines:
                    text = line.decode("utf-8", "replace").strip()
                    if text == "/quit":
                        break
                    name = self._hear(room, name, text)
        finally:
            with room.lock:
                room.guests.pop(name, None)
            self._tell(room, f"* {name} has gone", besides=name)

    def _hear(self, room: _Room, name: str, text: str) -> str:
        """Do what the line says; the guest's name afterwards."""
        if text == "/who":
            with room.lock:
                present = ", ".join(sorted(room.guests))
            self._send(room, name, f"* {present}")
        elif text.startswith("/name "):
            return self._rename(room, name, text.removeprefix("/name ").strip())
        elif text.startswith("/"):
            self._send(room, name, f"* there is no {text.split()[0]}: /name NAME, /who, /quit")
        elif text:
            self._tell(room, f"{name}: {text}", besides=name)
        return name

    def _rename(self, room: _Room, name: str, wanted: str) -> str:
        with room.lock:
            free = bool(wanted) and wanted not in room.guests
            if free:
                room.guests[wanted] = room.guests.pop(name)
        if not free:
            self._send(room, name, f"* {wanted!r} is no name that you could have")
            return name
        self._tell(room, f"* {name} is {wanted} now")
        return wanted

    def _tell(self, room: _Room, text: str, besides: str = "") -> None:
        with room.lock:
            names = [name for name in room.guests if name != besides]
        for name in names:
            self._send(room, name, text)

    def _send(self, room: _Room, name: str, text: str) -> None:
        # One line at a time: those of two threads must not be mixed.
        with room.lock:
            sock = room.guests.get(name)
            try:
                if sock is not None:
                    sock.sendall(f"{text}\r\n".encode())
            except OSError:
                pass  # it is about to go

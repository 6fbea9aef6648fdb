"""A key-value store that speaks enough of the Redis protocol for its clients, and for people with a terminal."""

from __future__ import annotations

import fnmatch
import shlex
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from ._base import Peer

__all__ = ("KeyValueStore",)

Reply: TypeAlias = "bytes | int | str | list[bytes] | _Refusal | None"


class _Refusal(Exception):  # noqa: N818 - what a client is told, and no error of ours
    """What the store says that it does not do."""


class _Data:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[bytes, bytes] = {}


class KeyValueStore(Peer):
    """Keeps values under keys for as long as its server runs; each of PING, ECHO, GET, SET, DEL, EXISTS, INCR, INCRBY, KEYS, FLUSHALL, QUIT.

    Requests are lines (``SET key value``), or arrays of the Redis serialization protocol (RESP, version 2), as its clients send
    them; replies are in that protocol. For servers with threads: each process has a store of its own.
    """

    def converse(self, sock: Any) -> None:
        """Until the client is done, or says QUIT."""
        data: _Data = self.server.__dict__.setdefault("servertest_store", _Data())
        with sock.makefile("rb") as lines:
            while (words := _request(lines)) is not None:
                if not words:
                    continue
                sock.sendall(_said(_obey(data, words)))
                if words[0].upper() == b"QUIT":
                    return


def _request(lines: Any) -> list[bytes] | None:
    """The words of the next request; None when there is none."""
    line = lines.readline(65_536)
    if not line.endswith(b"\n"):
        return None
    if not line.startswith(b"*"):
        return _words(line)
    words = []
    for _ in range(_number(line)):
        size = _number(lines.readline(64))
        word = lines.read(size + 2)
        if len(word) < size + 2:
            return None
        words.append(word[:size])
    return words


def _words(line: bytes) -> list[bytes]:
    try:
        return [
            word.encode("utf-8", "surrogateescape")
            for word in shlex.split(line.decode("utf-8", "surrogateescape"))
        ]
    except ValueError:
        return [b"", line]  # quotes that nobody closes: no command has that name


def _number(line: bytes) -> int:
    digits = line[1:].strip()
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0


def _obey(data: _Data, words: list[bytes]) -> Reply:
    command = _COMMANDS.get(words[0].upper())
    if command is None:
        return _Refusal(f"unknown command {words[0].decode('latin-1')!r}")
    function, least, most = command
    if not least <= len(words) - 1 <= most:
        return _Refusal(f"wrong number of arguments for {words[0].decode('latin-1')!r}")
    with data.lock:
        try:
            return function(data.values, *words[1:])
        except _Refusal as refusal:
            return refusal


def _said(reply: Reply) -> bytes:
    if isinstance(reply, _Refusal):
        return f"-ERR {reply}\r\n".encode("latin-1")
    if isinstance(reply, str):
        return f"+{reply}\r\n".encode("latin-1")
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(_said, reply))
    return b"$%d\r\n%s\r\n" % (len(reply), reply)


Values: TypeAlias = dict[bytes, bytes]


def _set(values: Values, key: bytes, value: bytes, *how: bytes) -> str | None:
    modes = {word.upper() for word in how}
    if modes - {b"NX", b"XX"}:
        raise _Refusal("syntax error: of the options of SET there are NX and XX")
    if (b"NX" in modes and key in values) or (b"XX" in modes and key not in values):
        return None
    values[key] = value
    return "OK"


def _increase(values: Values, key: bytes, by: bytes = b"1") -> int:
    try:
        number = int(values.get(key, b"0")) + int(by)
    except ValueError:
        raise _Refusal("value is not an integer or out of range") from None
    values[key] = b"%d" % number
    return number


def _flush(values: Values) -> str:
    values.clear()
    return "OK"


def _keys(values: Values, pattern: bytes = b"*") -> list[bytes]:
    return sorted(key for key in values if fnmatch.fnmatchcase(key, pattern))


_MANY = 1_000_000

_COMMANDS: dict[bytes, tuple[Callable[..., Reply], int, int]] = {
    b"PING": (lambda values, text=None: "PONG" if text is None else text, 0, 1),
    b"ECHO": (lambda values, text: text, 1, 1),
    b"GET": (lambda values, key: values.get(key), 1, 1),
    b"SET": (_set, 2, 4),
    b"DEL": (lambda values, *keys: sum(values.pop(key, None) is not None for key in keys), 1, _MANY),
    b"EXISTS": (lambda values, *keys: sum(key in values for key in keys), 1, _MANY),
    b"INCR": (_increase, 1, 1),
    b"INCRBY": (_increase, 2, 2),
    b"KEYS": (_keys, 0, 1),
    b"FLUSHALL": (_flush, 0, 0),
    b"QUIT": (lambda values: "OK", 0, 0),
}

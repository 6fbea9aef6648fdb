"""Readers that are slow indeed: on a server, over a connection on which little fits."""

from __future__ import annotations

import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..._support import hard_reset
from ...launch import HandlerTarget, Kind, Running
from .._case import Case
from .._conversation import Conversation
from .._registry import NotApplicable, contract_check
from .._violation import Violation

__all__ = ("slow_reader_on_a_server",)

#: Bytes of a reply that surely do not fit, buffers of both ends, and how much the reader takes before its pause.
_LONG, _BUFFER, _FIRST = 32_768, 2048, 1000
#: Seconds of the pause, and how often it is tried: on a busy machine it may become longer.
_PAUSE, _TRIES = 0.15, 3


def _threading_tcp(kind: Kind) -> bool:
    return kind == Kind()


def _with_little_room(handler: Any, request: socket.socket, *arguments: Any) -> Any:
    request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return handler(request, *arguments)


@contract_check("writing", technique="live server", kinds=_threading_tcp)
def slow_reader_on_a_server(case: Case) -> Iterator[Violation]:
    """A client with a tiny window that pauses in the midst of a long reply still gets all of it.

    It reads a thousand bytes, does nothing for 0.15 seconds, and then reads on. The buffers on both sides are as small as they may be, so the handler has to
    wait for it; a time-out for reading must not end the reply. It needs a reply of 32 kilobytes or more.
    """
    if not isinstance(case.target, HandlerTarget):
        raise NotApplicable("it needs a request handler")
    long = [one for one in case.conversations if any(len(reply) >= _LONG for reply in one.replies)]
    if not long:
        raise NotApplicable(f"no reply is as long as {_LONG} bytes")
    if (case.promises.idle_timeout or 1.0) < 3 * _PAUSE:
        raise NotApplicable("a client may not even pause")
    target = replace(case.target, handler=functools.partial(_with_little_room, case.target.handler))
    with replace(case, target=target).serving() as running:
        for conversation in long:
            for _ in range(_TRIES):
                came = _read_slowly(running, conversation, case.timeout)
                if case.agrees(conversation, came):
                    break
            else:
                yield case.violation(
                    "a client that pauses in the midst of a reply does not get the rest of it",
                    sent=conversation.sent,
                    came=came,
                    expected=conversation.answered,
                )


def _read_slowly(running: Running, conversation: Conversation, timeout: float) -> bytes:
    received = bytearray()
    with socket.socket(socket.AF_INET) as client, suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        client.settimeout(timeout)
        client.connect(running.address)
        due = 0
        for exchange, reply in zip(conversation.exchanges, conversation.replies, strict=True):
            client.sendall(exchange.sent)
            due += len(reply)
            if len(reply) >= _LONG:
                received += client.recv(_FIRST)
                threading.Event().wait(_PAUSE)  # that is what is tried
            while len(received) < due and (data := client.recv(4096)):
                received += data
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(4096):
            received += data
        hard_reset(client)
    return bytes(received)

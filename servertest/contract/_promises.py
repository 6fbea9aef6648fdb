"""What the author of a handler claims: checks hold it to that, and to nothing else."""

from __future__ import annotations

import codecs
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._support import UsageError
from ..transcript import Exchange

__all__ = ("Promises",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What a handler promises. All are optional, and None says nothing.

    A check that needs a promise which is not made is reported as not promised, and never as passed. False takes back what checks would otherwise
    take for granted: `concurrent=False` for a handler that may serve one client at a time only.

    Attributes:
        idle_timeout: A silent client is cut off after this many seconds, neither much earlier nor much later.
        patience: A client that is silent for this many seconds is still served.
        goodbye: What a client is told before it is cut off for its silence.
        max_request: Requests of up to this many bytes are served; longer ones need not be, and are kept within bounds.
        sized: Makes an exchange whose request has a given number of bytes.
        pipelining: A client may send the next request before it has the reply.
        half_close: A client may finish sending, and still gets the replies and then end of file.
        streaming: Bytes are answered as they come, whole requests or not.
        banner: The server speaks first.
        reads: False: it reads nothing of what clients send.
        ends_with: "eof": a request ends where the client finishes sending.
        last_closes: The server closes the connection after the last exchange.
        replies: "each": every request has a reply. "some": one reply may be for many requests. "none": nothing is ever answered.
        any_order: Replies may come in another order than their requests.
        reply_seconds: A reply may take so many seconds.
        encoding: Requests are text in this encoding.
        stateful: What one connection does may be seen by later ones. Without it every connection begins anew.
        distinct: No two replies are the same, whoever asks.
        broadcast: What one client says the others hear.
        concurrent: Clients are served at the same time, and do not disturb each other. False: only one at a time.
        forking: It may be served by processes that know nothing of each other.
        unix: It also runs on Unix sockets.
        ipv6: It also runs on IPv6.
        tls: It also runs under TLS.
        idempotent: A datagram that comes twice does no harm.
        amplification: A reply is at most so many times as long as the datagram that asked for it.
    """

    idle_timeout: float | None = None
    patience: float | None = None
    goodbye: bytes | None = None
    max_request: int | None = None
    sized: Callable[[int], Exchange] | None = None
    pipelining: bool | None = None
    half_close: bool | None = None
    streaming: bool | None = None
    banner: bool | None = None
    reads: bool | None = None
    ends_with: Literal["eof"] | None = None
    last_closes: bool | None = None
    replies: Literal["each", "some", "none"] | None = None
    any_order: bool | None = None
    reply_seconds: float | None = None
    encoding: str | None = None
    stateful: bool | None = None
    distinct: bool | None = None
    broadcast: bool | None = None
    concurrent: bool | None = None
    forking: bool | None = None
    unix: bool | None = None
    ipv6: bool | None = None
    tls: bool | None = None
    idempotent: bool | None = None
    amplification: float | None = None

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
            ):
                raise UsageError(f"Promises: {name} is a number above 0, not {value!r}")
        for name, words in _WORDS.items():
            if getattr(self, name) not in (None, *words):
                raise UsageError(
                    f"Promises: {name} is one of {', '.join(words)}, not {getattr(self, name)!r}"
                )
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except LookupError:
                raise UsageError(f"Promises: there is no encoding {self.encoding!r}") from None

    @classmethod
    def of(cls, value: Promises | Mapping[str, Any] | None) -> Promises:
        """Promises from a mapping of their names, or as they are; none at all from None.

        Raises:
            UsageError: A name is not that of a promise.
        """
        if value is None:
            return cls()
        if isinstance(value, Promises):
            return value
        known = [field.name for field in dataclasses.fields(cls)]
        for name in value:
            if name not in known:
                raise UsageError(f"there is no promise {name!r}; there is {', '.join(known)}")
        return cls(**value)

    @classmethod
    def parse(cls, words: Sequence[str]) -> Promises:
        """Promises as words of a command line: ``idle_timeout=0.5``, ``half_close``, ``pipelining=no``.

        Raises:
            UsageError: A word says nothing that can be promised.
        """
        found: dict[str, Any] = {}
        for word in words:
            name, equals, text = word.partition("=")
            found[name.strip().replace("-", "_")] = _value(text) if equals else True
        if isinstance(goodbye := found.get("goodbye"), str):
            found["goodbye"] = goodbye.encode().decode("unicode_escape").encode("latin-1")
        return cls.of(found)

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which of these promises are not made."""
        return [name for name in names if getattr(self, name) in (None, False)]


_NUMBERS = ("idle_timeout", "patience", "max_request", "reply_seconds", "amplification")
_WORDS: dict[str, tuple[str, ...]] = {"ends_with": ("eof",), "replies": ("each", "some", "none")}


def _value(text: str) -> Any:
    words = {"yes": True, "true": True, "no": False, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text

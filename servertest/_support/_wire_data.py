"""Faker's words for what passes over a wire: lines, datagrams, blobs and garbage, repeatable from the provider's seed."""

from __future__ import annotations

from faker.providers import BaseProvider

__all__ = ("WireProvider",)

#: What makes programs stumble: the ends of ranges, terminators, format characters, broken UTF-8.
_TROUBLE = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff" * 4,
    b"\xc3",  # the first half of a character
    b"\xed\xa0\x80",  # a surrogate
    b"\xf4\x90\x80\x80",  # beyond Unicode
    b"%s%n",
    b"-1",
    b"4294967296",
)


class WireProvider(BaseProvider):
    """Data as clients send it. The plugin adds it to the fixture `faker`; elsewhere: `fake.add_provider(WireProvider)`."""

    def wire_line(self, max_bytes: int = 80, ending: bytes = b"\n") -> bytes:
        """A line of words, `max_bytes` long at the most, its ending included."""
        room = max(max_bytes - len(ending), 0)
        text = self.generator.sentence(nb_words=8).encode("utf-8")[:room]
        line: bytes = text.decode("utf-8", "ignore").encode("utf-8") + ending
        return line

    def wire_datagram(self, max_bytes: int = 512) -> bytes:
        """A datagram of 0 to `max_bytes` bytes."""
        return self.wire_blob(0, max_bytes)

    def wire_blob(self, min_bytes: int = 1, max_bytes: int = 4096) -> bytes:
        """Bytes of all values, from `min_bytes` to `max_bytes` of them."""
        size = self.generator.random.randint(min_bytes, max_bytes)
        blob: bytes = self.generator.random.randbytes(size)
        return blob

    def wire_garbage(self, max_bytes: int = 64) -> bytes:
        """What no protocol expects: terminators in the wrong places, broken UTF-8, NULs. Never empty."""
        random = self.generator.random
        parts: list[bytes] = []
        while sum(map(len, parts)) < max_bytes and (not parts or random.random() < 0.85):
            parts.append(
                random.choice(_TROUBLE) if random.random() < 0.6 else random.randbytes(random.randint(1, 8))
            )
        return b"".join(parts)[: max(max_bytes, 1)]

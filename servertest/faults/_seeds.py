"""Random streams that do not disturb each other."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ("derived_seed",)


def derived_seed(seed: int | str, *names: int | str) -> int:
    """The seed of one stream among many: the same names always give the same, whatever other streams there are.

    Args:
        seed: What all streams of a run have in common.
        names: What tells this stream from the others, such as connection, direction and fault.
    """
    # The kind and the length of each name are part of it: (1, "1") and ("11",) are different streams.
    text = "".join(f"{type(name).__name__}{len(str(name))}:{name}" for name in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")

"""What a judge says of a record: a sentence, and how anybody can see that it is so."""

from __future__ import annotations

from typing import Self

__all__ = ("Wrong",)


class Wrong(str):
    """What is wrong, as the end of a sentence; empty if nothing is.

    Attributes:
        proof: An expression about `record` that would be true if it were right: what reproductions assert. Nothing if there is none that is short.
    """

    __slots__ = ("proof",)

    proof: str

    def __new__(cls, what: str, proof: str = "") -> Self:
        """The sentence and its proof."""
        self = super().__new__(cls, what)
        self.proof = proof
        return self

    def said(self, before: str) -> Wrong:
        """The same with something before it."""
        return Wrong(before + self, self.proof)

    def __reduce__(self) -> tuple[type[Wrong], tuple[str, str]]:
        return Wrong, (str(self), self.proof)

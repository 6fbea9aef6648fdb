"""What all behaviours have in common: a name, checked fields, a text form; and all that exist."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from ..._support import UsageError
from ...faults import Declared

if TYPE_CHECKING:
    from ..._support import Transport
    from ._script import Script

__all__ = ("Behaving", "Behaviour", "behaviour", "behaviours")

_behaviours: dict[str, type[Behaviour]] = {}
behaviours: Mapping[str, type[Behaviour]] = MappingProxyType(_behaviours)
"""Every behaviour that exists, by the name that it has in text."""

_FULL: frozenset[Any] = frozenset({"stream"})


class Behaviour(Declared):
    """How a client behaves. Subclasses are frozen dataclasses, and are known by name as soon as they are defined.

    A slow or rude client is an honest one with faults on its line: a behaviour says what the client would do, and which
    faults are in its way. It knows no socket, clock or thread.

    Attributes:
        carried_by: The transports on which it makes sense.
        needs_tls: Whether it makes sense only where TLS is spoken.
    """

    carried_by: ClassVar[frozenset[Transport]] = _FULL
    needs_tls: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not cls.__name__.startswith("_"):
            _behaviours[cls.name] = cls

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The behaviour in its text form, which `behaviour` reads."""
        from ...faults._writing import spelled

        return spelled(self)

    def script(self, transport: Transport = "stream") -> Script:
        """What a client that behaves so does.

        Args:
            transport: "stream" or "datagram".
        """
        raise NotImplementedError

    def check(self, transport: Transport, *, tls: bool = False) -> None:
        """Refuse what makes no sense there.

        Args:
            transport: "stream" or "datagram".
            tls: Whether TLS is spoken.

        Raises:
            UsageError: The behaviour is for the other transport, or for TLS.
        """
        if transport not in self.carried_by:
            raise UsageError(f"{type(self).__name__} is not for a {transport}")
        if self.needs_tls and not tls:
            raise UsageError(f"{type(self).__name__} is about the handshake of TLS, which is not spoken here")


Behaving: TypeAlias = "Behaviour | str"
"""What is accepted wherever a behaviour is: one, or its text."""


def behaviour(wanted: Behaving) -> Behaviour:
    r"""Whatever stands for a behaviour, as one.

    Args:
        wanted: A behaviour; or its text, such as ``slow_writer:"hello\n",bytes_per_second:2``.

    Raises:
        UsageError: It is no behaviour, or its text is malformed.
    """
    if isinstance(wanted, Behaviour):
        return wanted
    if isinstance(wanted, str):
        from ...faults._text import read_value

        return read_value(wanted, behaviours, "behaviour")
    raise UsageError(f"a behaviour is a value such as SlowWriter(), or its text, not {wanted!r}")

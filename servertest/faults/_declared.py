"""Values that say what they are: dataclasses whose fields have rules, a name, and a text form."""

from __future__ import annotations

import re
from dataclasses import MISSING, Field, dataclass, fields
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, ClassVar, cast

from .._support import UsageError

if TYPE_CHECKING:
    from typing import Self

    from ._fields import Rule

__all__ = ("Declared", "Parameter")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A field, for tables and for those who write or read such values in other forms.

    Attributes:
        name: The field.
        default: Its value if nothing is said.
        about: What it means.
        rule: What it may hold, with the unit; None for a field of which nothing is known.
    """

    name: str
    default: Any
    about: str
    rule: Rule | None


class Declared:
    """What faults and their like have in common. Subclasses are frozen dataclasses; what their fields hold is checked.

    Attributes:
        name: What it is called in text: the class name in small letters, with underscores.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__repr__" not in vars(cls):
            # A dataclass leaves alone what is there already: this one writes only what is not as usual.
            cls.__repr__ = Declared.__repr__  # type: ignore[method-assign]
        cls.name = "".join(f"_{c.lower()}" if c.isupper() else c for c in cls.__name__).lstrip("_")

    def __post_init__(self) -> None:
        for field in self._fields():
            rule: Rule | None = field.metadata.get("rule")
            if rule is not None:
                value = rule.accept(type(self).__name__, field.name, getattr(self, field.name))
                object.__setattr__(self, field.name, value)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.given.items())})"
        )

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are not as usual, by name."""
        values = ((field, getattr(self, field.name)) for field in self._fields())
        return {field.name: value for field, value in values if value != field.default}

    @classmethod
    def description(cls) -> str:
        """What the peer sees: the docstring without its sections, in one line."""
        return " ".join(cleandoc(cls.__doc__ or "").partition("\n\nAttributes:")[0].split())

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """The fields, in their order, with what is known of each."""
        about = _attributes(cls.__doc__ or "")
        return tuple(
            Parameter(
                field.name,
                None if field.default is MISSING else field.default,
                about.get(field.name, ""),
                field.metadata.get("rule"),
            )
            for field in cls._fields()
        )

    @classmethod
    def example(cls) -> Self:
        """A typical value, for tables, pictures and tests: the usual one, unless the class says otherwise."""
        return cls()

    @classmethod
    def _fields(cls) -> tuple[Field[Any], ...]:
        return fields(cast("Any", cls))

    def refuse(self, field: str, problem: str) -> UsageError:
        """The error for a value that contradicts the others.

        Args:
            field: The field that is at fault.
            problem: What it may be, as the end of a sentence.
        """
        return UsageError(f"{type(self).__name__}: {field} is {problem}, not {getattr(self, field)!r}")


def _attributes(docstring: str) -> dict[str, str]:
    """What a docstring says of each attribute."""
    section = cleandoc(docstring).partition("Attributes:\n")[2]
    about: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name, text = match.groups()
            about[name] = text
        elif name and line.startswith("     "):
            about[name] += f" {line.strip()}"
        else:
            break
    return about

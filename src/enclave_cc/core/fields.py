"""Typed reading of foreign JSON and TOML objects: each complaint names the member it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

# A parsed JSON or TOML value; inside ``Fields`` the word ``object`` names a method.
JsonValue: TypeAlias = object


class FieldError(ValueError):
    """A member is missing, has the wrong type, or should not be there."""


class _Required:
    """Marks a member that has no default."""


_REQUIRED: Final = _Required()


class Fields:
    """One object from outside; ``where`` is its path and starts every complaint."""

    __slots__ = ("_members", "_where")

    def __init__(self, value: JsonValue, where: str) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"{where}: is not an object")
        self._members: dict[str, object] = value
        self._where = where

    def error(self, name: str, complaint: str) -> FieldError:
        """Build the error for one member."""
        return FieldError(f"{self._where}.{name}: {complaint}")

    def only(self, *names: str) -> None:
        """Refuse members that nobody asked for."""
        for name in self._members:
            if name not in names:
                raise self.error(name[:64], "is unknown")

    def has(self, name: str) -> bool:
        """Tell whether a member is present and not null."""
        return self._members.get(name) is not None

    def names(self) -> Iterator[str]:
        """Iterate over the members' names."""
        return iter(self._members)

    def text(self, name: str, *, default: str | _Required = _REQUIRED) -> str:
        """Read a text."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(name, "is not a text")
        return value

    def integer(self, name: str, *, default: int | _Required = _REQUIRED) -> int:
        """Read an integer; a boolean is none."""
        value = self._value(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(name, "is not an integer")
        return value

    def boolean(self, name: str, *, default: bool | _Required = _REQUIRED) -> bool:
        """Read a boolean."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "is not a boolean")
        return value

    def object(self, name: str) -> Fields:
        """Read an object; an absent one reads as empty."""
        value = self._members.get(name)
        return Fields({} if value is None else value, f"{self._where}.{name}")

    def array(self, name: str) -> list[JsonValue]:
        """Read an array; an absent one reads as empty."""
        value = self._members.get(name)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise self.error(name, "is not an array")

    def texts(self, name: str) -> tuple[str, ...]:
        """Read an array of texts; an absent one reads as empty."""
        values = self.array(name)
        texts = tuple(value for value in values if isinstance(value, str))
        if len(texts) != len(values):
            raise self.error(name, "is not an array of texts")
        return texts

    def text_map(self, name: str) -> dict[str, str]:
        """Read an object whose values are all texts; an absent one reads as empty."""
        inner = self.object(name)
        return {key: inner.text(key) for key in inner.names()}

    def raw(self, name: str) -> JsonValue:
        """Hand out a member as it is, None when absent."""
        return self._members.get(name)

    def _value(self, name: str, default: JsonValue) -> JsonValue:
        value = self._members.get(name)
        if value is not None:
            return value
        if isinstance(default, _Required):
            raise self.error(name, "is missing")
        return default

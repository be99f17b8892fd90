"""The command line that containerd calls shims with: Go flags, one or two dashes, then an action."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

_SWITCHES: Final = frozenset({"debug", "v", "version", "info"})
_VALUES: Final = frozenset({"namespace", "id", "address", "publish-binary", "bundle", "socket"})


class UsageError(ValueError):
    """The command line makes no sense; the text says where."""


class Arguments:
    """Flags by name, and the action."""

    __slots__ = ("action", "values")

    def __init__(self, words: Sequence[str]) -> None:
        self.action = ""
        self.values: dict[str, str] = {}
        position = 0
        while position < len(words):
            position += 1
            word = words[position - 1]
            if not word.startswith("-"):
                self.action = word
                continue
            name, equals, value = word.lstrip("-").partition("=")
            if name in _SWITCHES:
                self.values[name] = "" if equals and value == "false" else "true"
            elif name not in _VALUES:
                raise UsageError(f"unknown flag: {name}")
            elif equals:
                self.values[name] = value
            elif position == len(words):
                raise UsageError(f"flag needs a value: {name}")
            else:
                self.values[name] = words[position]
                position += 1

    def get(self, name: str) -> str:
        """Return a flag's value, empty when it is absent."""
        return self.values.get(name, "")

    def require(self, name: str) -> str:
        """Return a flag's value; raise ``UsageError`` when it is absent."""
        value = self.get(name)
        if not value:
            raise UsageError(f"{name} must be set")
        return value

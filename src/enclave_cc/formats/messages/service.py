"""What a ttrpc service is: a name, and methods with a request and a response schema."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enclave_cc.formats.protobuf import Schema


class Method:
    """One unary call."""

    __slots__ = ("request", "response")

    def __init__(self, request: Schema, response: Schema) -> None:
        self.request = request
        self.response = response


class Service:
    """A service and its methods, as both sides know it."""

    __slots__ = ("methods", "name")

    def __init__(self, name: str, methods: dict[str, Method]) -> None:
        self.name = name
        self.methods = methods

"""
The register of reference values (Trustee's RVPS): named JSON values with a date of expiry.

An expired value counts as absent: nothing is trusted because it once was.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.trustee.stores.port import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.trustee.stores.port import Store

_VERSION: Final = "0.1.0"
_LIFETIME: Final = timedelta(days=365)
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_MAX_MESSAGE_BYTES: Final = 1 << 20
_MAX_NAME_CHARS: Final = 256
# Every value travels into each evaluation; more than this belongs into several brokers.
_MAX_VALUES: Final = 1024


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """The register in a store; ``now`` is the clock."""

    store: Store
    now: Callable[[], datetime]

    def register_message(self, message: bytes) -> tuple[str, ...]:
        """Take an RVPS message of type ``sample``; return the names, raise ``InvalidInputError``."""
        values = _parse_message(message)
        for name, value in values.items():
            self.register(name, value)
        return tuple(values)

    def register(self, name: str, value: object) -> None:
        """Set one value for a year; lists are for ``in``, scalars for ``==``."""
        if not 0 < len(name) <= _MAX_NAME_CHARS or not name.isprintable():
            raise _invalid("a name is empty, too long or not printable")
        known = self.store.keys(Namespace.REFERENCE_VALUE)
        if name not in known and len(known) >= _MAX_VALUES:
            raise _invalid("the register is full")
        expiration = (self.now().astimezone(UTC) + _LIFETIME).strftime(_TIME_FORMAT)
        record = {"version": _VERSION, "name": name, "expiration": expiration, "value": value}
        try:
            text = json.dumps(record, allow_nan=False)
        except ValueError as error:
            raise _invalid("a number is not finite") from error
        self.store.put(Namespace.REFERENCE_VALUE, name, text.encode())

    def get(self, name: str) -> object:
        """Return a value, None when it is unknown or expired."""
        record = self.store.get(Namespace.REFERENCE_VALUE, name)
        if record is None:
            return None
        fields = json.loads(record)
        expired = datetime.fromisoformat(fields["expiration"]) <= self.now()
        return None if expired else fields["value"]

    def delete(self, name: str) -> bool:
        """Forget a value; tell whether there was one."""
        return self.store.delete(Namespace.REFERENCE_VALUE, name)

    def current(self) -> dict[str, object]:
        """Return all values that have not expired."""
        values = {name: self.get(name) for name in self.store.keys(Namespace.REFERENCE_VALUE)}
        return {name: value for name, value in values.items() if value is not None}


def _parse_message(message: bytes) -> dict[str, object]:
    try:
        fields = Fields(loads(message, max_bytes=_MAX_MESSAGE_BYTES), "message")
        if fields.text("version", default=_VERSION) != _VERSION or fields.text("type") != "sample":
            raise _invalid("the message has another version or type")
        payload = base64.b64decode(fields.text("payload"), validate=True)
        values = loads(payload, max_bytes=_MAX_MESSAGE_BYTES)
    except (FieldError, InvalidJsonError, binascii.Error, ValueError) as error:
        raise _invalid(str(error)) from error
    if not isinstance(values, dict):
        raise _invalid("the payload is not an object")
    return values


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "reference-value-invalid", "a reference value was not accepted", stage=Stage.BROKER, detail=detail
    )

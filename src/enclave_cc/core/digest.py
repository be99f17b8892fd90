"""Content digests, as the OCI image specification writes them."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import equal

# Only what the image specification registers; adding one is a security decision.
HEX_CHARS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm and the value it must produce."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:<64 lower-case hex digits>``; raise ``InvalidInputError`` for anything else."""
        algorithm, separator, value = text.partition(":")
        expected = HEX_CHARS.get(algorithm)
        if not separator or expected is None or len(value) != expected or not _HEX.fullmatch(value):
            raise InvalidInputError(
                "digest-invalid", "a digest is malformed", stage=Stage.REQUEST, detail=repr(text[:200])
            )
        return cls(algorithm, value)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Self:
        """Digest bytes that are at hand."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def matches(self, hex_value: str) -> bool:
        """Compare with a computed value."""
        return hmac.compare_digest(self.hex, hex_value)

    def verify(self, data: bytes | bytearray | memoryview) -> None:
        """Raise ``RefusedError`` unless the bytes have this digest."""
        actual = hashlib.new(self.algorithm, data).hexdigest()
        if not self.matches(actual):
            finding = equal("digest", expected=str(self), actual=f"{self.algorithm}:{actual}")
            raise RefusedError(
                "digest-mismatch", "bytes do not match their digest", stage=Stage.VERIFY, findings=(finding,)
            )

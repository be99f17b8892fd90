"""A key provider as a recipient of layer keys, and as a way to unwrap them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.ocicrypt.keyprovider import (
    PROVIDER_PREFIX,
    UNWRAP,
    WRAP,
    UnwrapRequest,
    WrapRequest,
    parse_unwrapped,
    parse_wrapped,
)
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.image.keys.schemes import Attempt
from enclave_cc.tenant.keyproviders.configuration import find_provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.tenant.keyproviders.configuration import Provider

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What ocicrypt writes for a provider that was named without parameters.
_NO_PARAMETERS: Final = "Enabled"
_ANSWER: Final = "a key provider's answer cannot be read"


@dataclass(frozen=True, slots=True)
class NamedProvider:
    """``provider:NAME[:PARAMETERS]``: wraps, and offers to unwrap what it wrapped."""

    name: str
    parameters: str
    provider: Provider

    @classmethod
    def parse(cls, text: str, config: Path | None) -> Self:
        """Read what follows ``provider:``; raise ``InvalidInputError`` (recipient-invalid, keyprovider-…)."""
        name, _, parameters = text.partition(":")
        if not _NAME.fullmatch(name):
            raise InvalidInputError(
                "recipient-invalid",
                "a recipient cannot be used",
                stage=Stage.CONFIG,
                detail=f"provider:{name[:128]}: is not the name of a key provider",
            )
        return cls(name, parameters or _NO_PARAMETERS, find_provider(name, config))

    @property
    def annotation(self) -> str:
        """Return the provider's own annotation."""
        return f"{PROVIDER_PREFIX}{self.name}"

    def wrap(self, options: PrivateOptions) -> bytes:
        """Ask for one item; raise the error family."""
        answer = self.provider.call(WRAP, WrapRequest(self._parameters(), options.encode()).encode())
        with foreign("keyprovider-answer-invalid", _ANSWER, stage=Stage.CONFIG):
            return parse_wrapped(answer)

    def attempts(self, item: bytes) -> Iterator[Attempt]:
        """Offer the provider itself."""
        yield Attempt(f"provider {self.name}", partial(self._unwrap, item))

    def _unwrap(self, item: bytes) -> PrivateOptions:
        answer = self.provider.call(UNWRAP, UnwrapRequest(self._parameters(), item).encode())
        with foreign("keyprovider-answer-invalid", _ANSWER, stage=Stage.DECRYPT):
            return PrivateOptions.parse(parse_unwrapped(answer))

    def _parameters(self) -> dict[str, tuple[bytes, ...]]:
        return {self.name: (self.parameters.encode(),)}

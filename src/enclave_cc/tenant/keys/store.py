"""Where new wrapping keys go, as the tenant's tools see it: somewhere that never gives one back to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.kbs.resource_uri import ResourceUri


class KeyStore(Protocol):
    """The owner's broker, as far as making keys goes."""

    def require_new(self, uri: ResourceUri) -> None:
        """Raise ``InvalidInputError`` (key-exists) if there is something of that name."""
        ...

    def create(self, uri: ResourceUri, key: Secret) -> None:
        """Keep a new key; raise ``InvalidInputError`` (key-exists) rather than replace one."""
        ...

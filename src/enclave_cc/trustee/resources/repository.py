"""
Secrets under three-part names.

Whether somebody may have one is decided elsewhere, before this is asked: a missing secret is
seen only by those who could have had it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.trustee.stores.port import Namespace

if TYPE_CHECKING:
    from enclave_cc.formats.kbs.resource_uri import ResourceUri
    from enclave_cc.trustee.stores.port import Store


@dataclass(frozen=True, slots=True)
class ResourceRepository:
    """The secrets in a store."""

    store: Store

    def get(self, uri: ResourceUri) -> bytes | None:
        """Return a secret, None when there is none."""
        return self.store.get(Namespace.RESOURCE, uri.path)

    def put(self, uri: ResourceUri, value: bytes) -> None:
        """Set a secret."""
        self.store.put(Namespace.RESOURCE, uri.path, value)

    def delete(self, uri: ResourceUri) -> bool:
        """Remove a secret; tell whether there was one."""
        return self.store.delete(Namespace.RESOURCE, uri.path)

    def paths(self) -> tuple[str, ...]:
        """List all names."""
        return self.store.keys(Namespace.RESOURCE)

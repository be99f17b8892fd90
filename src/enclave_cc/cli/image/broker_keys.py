"""New wrapping keys go into the owner's broker: the tenant's port, through the administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.trustee.admin_access import AdminAccess

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.kbs.resource_uri import ResourceUri


class BrokerKeyStore:
    """The broker that an ``admin.json`` names."""

    def __init__(self, admin: Path) -> None:
        self._access = AdminAccess.read(admin)

    def create(self, uri: ResourceUri, key: Secret) -> None:
        """
        Put a new key into the broker; raise ``RefusedError`` (resource-exists) if the name is taken.

        The broker replaces what it is given, so this asks first: two owners who make the same name at the
        same moment are told apart by nothing.
        """
        with self._access.client() as client:
            if uri.path in client.list_resources():
                raise RefusedError(
                    "resource-exists",
                    "the broker has a resource of that name",
                    stage=Stage.BROKER,
                    detail=str(uri),
                )
            client.put_resource(uri, bytes(key.reveal()))

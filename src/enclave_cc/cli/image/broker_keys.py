"""New wrapping keys go into the owner's broker: the tenant's port, through the administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.kbs.resource_uri import ResourceUri


class BrokerKeyStore:
    """The broker that an ``admin.json`` names."""

    def __init__(self, admin: Path) -> None:
        from enclave_cc.trustee.admin_access import AdminAccess  # noqa: PLC0415  # few commands need it

        self._access = AdminAccess.read(admin)

    def require_new(self, uri: ResourceUri) -> None:
        """Ask the broker for names; raise ``InvalidInputError`` (key-exists) if this is one of them."""
        with self._access.client() as client:
            if uri.path in client.list_resources():
                raise InvalidInputError(
                    "key-exists",
                    "the broker has a key of this name already",
                    stage=Stage.CONFIG,
                    detail=str(uri),
                )

    def create(self, uri: ResourceUri, key: Secret) -> None:
        """
        Put a new key into the broker; raise ``InvalidInputError`` (key-exists) if the name is taken.

        The broker replaces what it is given, so this asks first: two owners who make the same name at the
        same moment are told apart by nothing.
        """
        self.require_new(uri)
        with self._access.client() as client:
            client.put_resource(uri, bytes(key.reveal()))

"""New wrapping keys go into the owner's broker: the tenant's port, through the administrator."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.kbs.resource_uri import ResourceUri
    from enclave_cc.tenant.keys.store import KeyStore


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


class HeldKeys:
    """
    New keys that go to the broker once what needs them is complete.

    A command that fails before may be repeated as it stands: no name is taken in the broker.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._held: list[tuple[ResourceUri, Secret]] = []
        self._handed_over = False

    def require_new(self, uri: ResourceUri) -> None:
        """Raise ``InvalidInputError`` (key-exists) if there is something of that name."""
        self._store.require_new(uri)

    def create(self, uri: ResourceUri, key: Secret) -> None:
        """Hold a new key."""
        self._held.append((uri, key))

    def hand_over(self) -> None:
        """Put the keys into the broker: after the last layer, and before the image has its name."""
        for uri, key in self._held:
            # From the first attempt on the broker may have it, whatever it answers.
            self._handed_over = True
            self._store.create(uri, key)

    def abandon(self, copy: Path | None) -> None:
        """Remove the copy of a key that is in no broker."""
        if copy is not None and self._held and not self._handed_over:
            copy.unlink(missing_ok=True)


@contextmanager
def held_keys(admin: Path, copy: Path | None) -> Iterator[HeldKeys]:
    """Hold new keys for the broker of ``admin``; ``copy`` is the file that has the key too."""
    keys = HeldKeys(BrokerKeyStore(admin))
    try:
        yield keys
    except BaseException:
        # Whatever it was, the broker must not keep keys of an image that is not there.
        keys.abandon(copy)
        raise

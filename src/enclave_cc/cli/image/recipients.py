"""Who shall be able to open an image, as options say it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from enclave_cc.cli.image.files import create_private, read
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey

if TYPE_CHECKING:
    from enclave_cc.formats.ocicrypt.wrapping import Recipient

_KEY_BYTES: Final = 32


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RecipientOptions:
    """The broker's key."""

    key: Annotated[
        Path | None, Parameter(help="File with the 32-byte wrapping key; made here with --create-key.")
    ] = None
    key_id: Annotated[
        str | None, Parameter(help="Where the broker holds that key: kbs:///REPOSITORY/TYPE/TAG.")
    ] = None

    def recipients(self, created: Secret | None = None) -> tuple[Recipient, ...]:
        """Return them all."""
        if self.key_id is None:
            if self.key is not None:
                raise _incomplete("--key needs --key-id")
            return ()
        kid = str(ResourceUri.parse(self.key_id))
        if created is not None:
            return (BrokerKey(created, kid),)
        if self.key is None:
            raise _incomplete("--key-id needs --key, or --create-key")
        return (BrokerKey(Secret(read(self.key)), kid),)

    def create_key(self, admin: Path) -> Secret:
        """Make a key, keep it in the file if one is named, and give it to the broker; never replace one."""
        from enclave_cc.trustee.admin_access import AdminAccess  # noqa: PLC0415  # only this option needs it

        if self.key_id is None:
            raise _incomplete("--create-key needs --key-id")
        uri = ResourceUri.parse(self.key_id)
        key = Secret(os.urandom(_KEY_BYTES))
        with AdminAccess.read(admin).client() as client:
            if uri.path in client.list_resources():
                raise InvalidInputError(
                    "key-exists",
                    "the broker has a key of this name already",
                    stage=Stage.CONFIG,
                    detail=str(uri),
                )
            if self.key is not None:
                with os.fdopen(create_private(self.key), "wb") as file:
                    file.write(key.reveal())
            client.put_resource(uri, bytes(key.reveal()))
        return key


def _incomplete(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "recipient-missing", "it is not said who shall open the image", stage=Stage.CONFIG, detail=detail
    )

"""Who shall be able to open an image, as options say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.broker_keys import BrokerKeyStore
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.tenant.keys import recipients as named

if TYPE_CHECKING:
    from enclave_cc.formats.ocicrypt.wrapping import Recipient

RECIPIENT_HELP = (
    "kbs:///REPOSITORY/TYPE/TAG=FILE, jwe:PUBLIC-KEY, pkcs7:CERTIFICATE or provider:NAME[:PARAMETERS];"
    " may be repeated."
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RecipientOptions:
    """The broker's key, and any others."""

    key: Annotated[
        Path | None, Parameter(help="File with the 32-byte wrapping key; made here with --create-key.")
    ] = None
    key_id: Annotated[
        str | None, Parameter(help="Where the broker holds that key: kbs:///REPOSITORY/TYPE/TAG.")
    ] = None
    recipient: Annotated[
        tuple[str, ...], Parameter(help=RECIPIENT_HELP, negative="", show_default=False)
    ] = ()

    def recipients(
        self, keyprovider_config: Path | None, *, create_in: Path | None = None
    ) -> tuple[Recipient, ...]:
        """Return them all; ``create_in`` is the admin.json of the broker that new keys go into."""
        if self.key_id is None and self.key is not None:
            raise _incomplete("--key needs --key-id")
        texts = (*(() if self.key_id is None else (self.key_id,)), *self.recipient)
        if create_in is None:
            if self.key_id is not None and self.key is None:
                raise _incomplete("--key-id needs --key, or --create-key")
        elif not any(text.startswith(named.BROKER) and "=" not in text for text in texts):
            raise _incomplete("--create-key needs --key-id, or a kbs:/// recipient without a file")
        store = None if create_in is None else BrokerKeyStore(create_in)
        return named.parse_recipients(texts, named.RecipientOptions(self.key, store, keyprovider_config))


def _incomplete(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "recipient-missing", "it is not said who shall open the image", stage=Stage.CONFIG, detail=detail
    )

"""Who shall be able to open an image, as options say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.tenant.keys import recipients as named

if TYPE_CHECKING:
    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.keys.store import KeyStore

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
        self, keyprovider_config: Path | None, *, create_in: KeyStore | None = None
    ) -> tuple[Recipient, ...]:
        """Return them all; ``create_in`` is where new keys go."""
        self.require_complete(creates=create_in is not None)
        return named.parse_recipients(
            self._texts(), named.RecipientOptions(self.key, create_in, keyprovider_config)
        )

    def require_complete(self, *, creates: bool) -> None:
        """Refuse options that lack one another, before a file is read or a broker asked."""
        if self.key_id is None and self.key is not None:
            raise _incomplete("--key needs --key-id")
        if self.key_id is not None and not self.key_id.startswith(named.BROKER):
            raise named.invalid_recipient(f"--key-id {self.key_id[:256]}: does not begin with {named.BROKER}")
        if not creates:
            if self.key_id is not None and self.key is None:
                raise _incomplete("--key-id needs --key, or --create-key")
        elif not any(text.startswith(named.BROKER) and "=" not in text for text in self._texts()):
            raise _incomplete("--create-key needs --key-id, or a kbs:/// recipient without a file")

    def _texts(self) -> tuple[str, ...]:
        return (*(() if self.key_id is None else (self.key_id,)), *self.recipient)


def _incomplete(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "recipient-missing", "it is not said who shall open the image", stage=Stage.CONFIG, detail=detail
    )

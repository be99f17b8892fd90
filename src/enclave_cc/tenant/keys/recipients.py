"""
Who shall be able to open an image, as people write it at a command line. No secret is ever part of the text.

``kbs:///repository/type/tag=FILE``: a broker's key, from a file; without ``=FILE`` from ``key_file``, or a
new one that goes into the broker. ``jwe:PUBLIC-KEY`` and ``pkcs7:CERTIFICATE``: files.
``provider:NAME[:PARAMETERS]``: a key provider. All but the first are skopeo's words too.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.ocicrypt.annotation_packet import KEK_BYTES
from enclave_cc.formats.ocicrypt.jwe_item import JweRecipient
from enclave_cc.formats.ocicrypt.pkcs7_item import CertificateRecipient
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.tenant.keyproviders.provider import NamedProvider
from enclave_cc.tenant.places.files import unusable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.keys.store import KeyStore

BROKER: Final = "kbs:///"
# More than any key or certificate has; a wrong file is noticed before it fills the memory.
_MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class RecipientOptions:
    """What goes with recipients: a key file, a store for new keys, the configuration of key providers."""

    key_file: Path | None = None
    new_keys: KeyStore | None = None
    keyprovider_config: Path | None = None


def parse_recipients(texts: Sequence[str], options: RecipientOptions) -> tuple[Recipient, ...]:
    """
    Read recipients; new keys are made and stored only after all others could be used.

    With ``new_keys`` and ``key_file``, the new key is written to that file too, which must not exist.
    Raises ``InvalidInputError`` (recipient-invalid, file-unusable, image-key-invalid, resource-uri-invalid,
    keyprovider-config-invalid) and what the store raises.
    """
    unnamed = [text for text in texts if text.startswith(BROKER) and "=" not in text]
    if options.key_file is not None and len(unnamed) != 1:
        raise invalid_recipient("one key file is for one kbs:/// recipient; write kbs:///…=FILE for more")
    found: dict[int, Recipient] = {}
    for number, text in enumerate(texts):
        if text not in unnamed or options.new_keys is None:
            found[number] = _parse(text, options)
    for number, text in enumerate(texts):
        if number not in found and options.new_keys is not None:
            found[number] = _create(ResourceUri.parse(text), options.new_keys, options.key_file)
    return tuple(found[number] for number in sorted(found))


def _parse(text: str, options: RecipientOptions) -> Recipient:
    kind, _, name = text.partition(":")
    match kind:
        case "kbs":
            uri, _, file = text.partition("=")
            path = Path(file) if file else options.key_file
            if path is None:
                raise invalid_recipient(f"{uri}: needs its key: {uri}=FILE, or --create-key")
            return broker_key(ResourceUri.parse(uri), path)
        case "jwe":
            return _from_file(JweRecipient.parse, name)
        case "pkcs7":
            return _from_file(CertificateRecipient.parse, name)
        case "provider":
            return NamedProvider.parse(name, options.keyprovider_config)
        case _:
            raise invalid_recipient(f"{text[:256]}: is not a recipient")


def _from_file(parse: Callable[[bytes], Recipient], name: str) -> Recipient:
    data = read_key_file(Path(name))
    try:
        return parse(data)
    except InvalidInputError as error:
        raise invalid_recipient(f"{name}: {error.detail}") from error


def broker_key(uri: ResourceUri, path: Path) -> BrokerKey:
    """Read a broker's key from a file; raise ``InvalidInputError`` (image-key-invalid, file-unusable)."""
    key = Secret(read_key_file(path))
    if len(key) != KEK_BYTES:
        raise InvalidInputError(
            "image-key-invalid",
            "the wrapping key is not a 256-bit key with a kbs:/// name",
            stage=Stage.CONFIG,
            detail=f"{path}: {len(key)} bytes",
        )
    return BrokerKey(key, str(uri))


def read_key_file(path: Path) -> bytes:
    """Read a small file that a person named; raise ``InvalidInputError`` (file-unusable)."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise unusable(path, error) from error
    if len(data) > _MAX_FILE_BYTES:
        raise unusable(path, OSError(0, "is longer than any key"))
    return data


def invalid_recipient(detail: str) -> InvalidInputError:
    """Say that something is not a recipient, or not one that can be used."""
    return InvalidInputError(
        "recipient-invalid", "a recipient cannot be used", stage=Stage.CONFIG, detail=detail
    )


def _create(uri: ResourceUri, store: KeyStore, copy: Path | None) -> BrokerKey:
    """Make a key, first where the owner keeps it; leave no file for a key that is in no broker."""
    store.require_new(uri)
    key = Secret.random(KEK_BYTES)
    with ExitStack() as undo:
        if copy is not None:
            _write_private(copy, key)
            undo.callback(copy.unlink, missing_ok=True)
        store.create(uri, key)
        undo.pop_all()
    return BrokerKey(key, str(uri))


def _write_private(path: Path, key: Secret) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise unusable(path, error) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.reveal())

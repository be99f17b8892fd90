"""`enclave-cc image rewrap`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.options import (
    AllowA256CtrOption,
    KeyPasswordOption,
    KeyProviderConfigOption,
    KeysOption,
)
from enclave_cc.cli.image.passwords import key_password_from
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, transferring
from enclave_cc.cli.image.recipients import RECIPIENT_HELP, RecipientOptions
from enclave_cc.cli.image.result import show_written
from enclave_cc.cli.image.talk import say
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output
from enclave_cc.tenant.encryption.rewrap import Rewrapping
from enclave_cc.tenant.encryption.rewrap import rewrap as rewrap_between
from enclave_cc.tenant.keys.decryption_keys import open_key_ring

_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def rewrap(
    source: str,
    target: str,
    *,
    key: KeysOption = (),
    key_password_file: KeyPasswordOption = None,
    keyprovider_config: KeyProviderConfigOption = None,
    insecure_allow_a256ctr: AllowA256CtrOption = False,
    add_key: Annotated[
        Path | None, Parameter(help="File with the 32-byte wrapping key of another recipient.")
    ] = None,
    add_key_id: Annotated[
        str | None, Parameter(help="Where the broker holds that key: kbs:///REPOSITORY/TYPE/TAG.")
    ] = None,
    add_recipient: Annotated[
        tuple[str, ...], Parameter(help=RECIPIENT_HELP, negative="", show_default=False)
    ] = (),
    remove_recipient: Annotated[
        tuple[str, ...],
        Parameter(
            help="Key id to remove, as `image inspect` shows it; may be repeated.",
            negative="",
            show_default=False,
        ),
    ] = (),
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> None:
    """
    Change who can open the encrypted image SOURCE, writing to TARGET; layers stay as they are.

    SOURCE and TARGET may be the same. The manifest changes, so sign it again. Removing a recipient does not
    take back a key that was unwrapped already, or the manifest that was there before: for that, encrypt anew.

    Example: `enclave-cc image rewrap registry.example/team/app:v1 registry.example/team/app:v1
    --key keys/image.key --add-key keys/next.key --add-key-id kbs:///team/keys/next`
    """
    added = RecipientOptions(add_key, add_key_id, add_recipient).recipients(keyprovider_config)
    request = Rewrapping(add=added, remove=remove_recipient)
    keys = open_key_ring(
        key,
        password=key_password_from(key_password_file),
        keyprovider_config=keyprovider_config,
        insecure_allow_a256ctr=insecure_allow_a256ctr,
    )
    with transferring(source, target, registry, progress) as transfer:
        done = rewrap_between(transfer.reader, transfer.writer, request, keys, transfer.work)
    if remove_recipient:
        say("whoever unwrapped a layer's key before still has it: to take that back, encrypt the image anew")
    show_written(target, done.descriptor, output, layers=done.layers)

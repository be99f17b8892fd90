"""`enclave-cc image decrypt`."""

from __future__ import annotations

from enclave_cc.cli.image.options import (
    AllowA256CtrOption,
    KeyPasswordOption,
    KeyProviderConfigOption,
    KeysOption,
    PlatformOption,
)
from enclave_cc.cli.image.passwords import key_password_from
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, transferring
from enclave_cc.cli.image.result import show_written
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output
from enclave_cc.tenant.encryption.decryption import decrypt as decrypt_between
from enclave_cc.tenant.keys.decryption_keys import open_key_ring
from enclave_cc.tenant.platforms import parse_platform

_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def decrypt(
    source: str,
    target: str,
    *,
    key: KeysOption,
    key_password_file: KeyPasswordOption = None,
    keyprovider_config: KeyProviderConfigOption = None,
    insecure_allow_a256ctr: AllowA256CtrOption = False,
    platform: PlatformOption = (),
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> None:
    """
    Decrypt the image SOURCE into TARGET; an image nobody changed gets its old digests back.

    Everything is checked before it is written, by the code that opens images inside enclaves.

    Example: `enclave-cc image decrypt registry.example/team/app:v1 docker-archive:app.tar:app:v1
    --key keys/image.key`
    """
    keys = open_key_ring(
        key,
        password=key_password_from(key_password_file),
        keyprovider_config=keyprovider_config,
        insecure_allow_a256ctr=insecure_allow_a256ctr,
    )
    with transferring(source, target, registry, progress) as transfer:
        done = decrypt_between(
            transfer.reader,
            transfer.writer,
            keys,
            platforms=tuple(map(parse_platform, platform)),
            work=transfer.work,
        )
    show_written(target, done.descriptor, output, layers=done.layers)

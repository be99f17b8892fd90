"""`enclave-cc image decrypt`."""

from __future__ import annotations

from enclave_cc.cli.image.files import read
from enclave_cc.cli.image.options import KeysOption, PlatformOption
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, transferring
from enclave_cc.cli.image.result import show_written
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output
from enclave_cc.tenant.decryption import decrypt as decrypt_between
from enclave_cc.tenant.owner_keys import ring_of
from enclave_cc.tenant.platforms import parse_platform

_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def decrypt(
    source: str,
    target: str,
    *,
    key: KeysOption,
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
    keys = ring_of({path.name: read(path) for path in key})
    with transferring(source, target, registry, progress) as transfer:
        done = decrypt_between(
            transfer.reader,
            transfer.writer,
            keys,
            platforms=tuple(map(parse_platform, platform)),
            work=transfer.work,
        )
    show_written(target, done.descriptor, output, layers=done.layers)

"""`enclave-cc image encrypt`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.broker_keys import held_keys
from enclave_cc.cli.image.options import KeyProviderConfigOption, PlatformOption
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, transferring
from enclave_cc.cli.image.recipients import RecipientOptions
from enclave_cc.cli.image.result import show_written
from enclave_cc.cli.image.signing_options import SigningOptions
from enclave_cc.cli.image.talk import say
from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption, OutputOption
from enclave_cc.cli.output import Output
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.tenant.encryption.images import Encryption
from enclave_cc.tenant.encryption.images import encrypt as encrypt_between
from enclave_cc.tenant.encryption.layer_keys import deterministic as deterministic_keys
from enclave_cc.tenant.places.just_written import JustWritten
from enclave_cc.tenant.places.names import Place, PlaceKind
from enclave_cc.tenant.platforms import parse_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.formats.oci.descriptor import Platform
    from enclave_cc.formats.ocicrypt.wrapping import Recipient

_NOBODY = RecipientOptions()
_UNSIGNED = SigningOptions()
_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def encrypt(
    source: str,
    target: str,
    *,
    to: RecipientOptions = _NOBODY,
    create_key: Annotated[
        bool,
        Parameter(
            help="Make the key; the broker (--admin) has it before the image has its name.", negative=""
        ),
    ] = False,
    admin: AdminOption = DEFAULT_ADMIN,
    keyprovider_config: KeyProviderConfigOption = None,
    platform: PlatformOption = (),
    deterministic: Annotated[
        bool,
        Parameter(
            help="Same layer and key, same bytes: registries keep one copy, and equal layers show.",
            negative="",
        ),
    ] = False,
    compress: Annotated[
        Compression,
        Parameter(help="Compress layers that are not, such as those of `docker save`.", negative=""),
    ] = Compression.NONE,
    signing: SigningOptions = _UNSIGNED,
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> None:
    """
    Encrypt every layer of the image SOURCE into TARGET.

    Both are registry/repository:tag, oci:DIR[:NAME] or oci-archive:FILE[:NAME]; SOURCE also
    docker-archive:FILE[:REF], as `docker save` writes it.

    Example: `enclave-cc image encrypt docker-archive:app.tar registry.example/team/app:v1
    --key keys/image.key --key-id kbs:///team/keys/app --recipient jwe:colleague.pem`
    """
    platforms = tuple(map(parse_platform, platform))
    _require_fit(target)
    to.require_complete(creates=create_key)
    signer = signing.load(target)
    with held_keys(admin, to.key) if create_key else nullcontext() as new_keys:
        recipients = to.recipients(keyprovider_config, create_in=new_keys)
        request = replace(_request(recipients, platforms, steady=deterministic), compress=compress)
        with transferring(source, target, registry, progress) as transfer:
            done = encrypt_between(transfer.reader, transfer.writer, request, transfer.work)
            if signer is not None:
                written = JustWritten(done.descriptor, done.documents, transfer.before)
                signer.sign(written, transfer.writer, done.descriptor)
            if new_keys is not None:
                new_keys.hand_over()
    if done.left_out:
        say(f"left out {len(done.left_out)} description(s) of the plain image (provenance, package lists)")
    show_written(
        target, done.descriptor, output, images=done.images, layers=done.layers, layer_bytes=done.layer_bytes
    )


def _require_fit(target: str) -> None:
    """Say before the work that a docker archive has no place for encrypted layers."""
    if Place.parse(target).kind is PlaceKind.DOCKER_ARCHIVE:
        raise InvalidInputError(
            "image-place-unfit",
            "a docker archive cannot hold this image",
            stage=Stage.REQUEST,
            detail="it has no place for a layer's encryption",
        )


def _request(recipients: Sequence[Recipient], platforms: tuple[Platform, ...], *, steady: bool) -> Encryption:
    if not steady:
        return Encryption(recipients, platforms)
    keys, recipients = deterministic_keys(recipients)
    return Encryption(recipients, platforms, keys)

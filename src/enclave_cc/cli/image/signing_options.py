"""Signing in the same step as writing: the options, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.cli.image.passwords import password_from
from enclave_cc.cli.image.policy_options import reference_for
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.signing.sign import Signer
from enclave_cc.tenant.signing.signing_key import SigningKey

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class SigningOptions:
    """Who signs, and for which name."""

    sign: Annotated[
        Path | None, Parameter(help="Private key to sign the result with, as `image sign` does.")
    ] = None
    repository: Annotated[
        str, Parameter(help="With --sign: name that people pull by; a registry's image has one already.")
    ] = ""
    password_file: Annotated[
        Path | None, Parameter(help="The key's password; else COSIGN_PASSWORD, else you are asked.")
    ] = None

    def load(self, target: str) -> ReadySigner | None:
        """Load the key now, so that a wrong password is known before the work."""
        if self.sign is None:
            return None
        if self.repository:
            name = Reference.parse(self.repository, default_tag=None)
        else:
            name = reference_for(target, "")
        return ReadySigner(SigningKey.load(read(self.sign), password_from(self.password_file)), name)


@dataclass(frozen=True, slots=True)
class ReadySigner:
    """A key and the name to sign for."""

    key: SigningKey
    repository: Reference

    def sign(self, reader: ImageReader, writer: ImageWriter, descriptor: Descriptor) -> None:
        """Sign a manifest, or an index with all its images."""
        Signer(reader, writer, self.repository, self.key).sign(descriptor, recursive=True)

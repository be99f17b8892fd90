"""What a policy can ask of an image: the requirements of containers-policy.json(5), as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.formats.signatures.identity import SignedIdentity

if TYPE_CHECKING:
    from enclave_cc.formats.signatures.signer import SignerIdentity


@dataclass(frozen=True, slots=True)
class Material:
    """A key, keyring, certificate or trust root: the bytes themselves, or the resource that holds them."""

    uri: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        return self.uri or "inline data"


@dataclass(frozen=True, slots=True)
class InsecureAcceptAnything:
    """Accept without any signature."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Never accept."""


_DEFAULT_IDENTITY = SignedIdentity()


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Accept what a holder of one of these OpenPGP keys signed (simple signing)."""

    keyrings: tuple[Material, ...]
    identity: SignedIdentity = _DEFAULT_IDENTITY


@dataclass(frozen=True, slots=True)
class KeyTrust:
    """Any of these keys; with ``rekor_keys`` one of these logs has to have seen the signature."""

    keys: tuple[Material, ...]
    rekor_keys: tuple[Material, ...] = ()


@dataclass(frozen=True, slots=True)
class FulcioTrust:
    """A certificate of this authority for this signer, seen by one of these logs."""

    ca: Material
    rekor_keys: tuple[Material, ...]
    signer: SignerIdentity


@dataclass(frozen=True, slots=True)
class TrustedRootTrust:
    """A certificate for this signer, by what a pinned ``trusted_root.json`` says."""

    root: Material
    signer: SignerIdentity


SigstoreTrust = KeyTrust | FulcioTrust | TrustedRootTrust


@dataclass(frozen=True, slots=True)
class SigstoreSigned:
    """Accept what somebody trusted signed for this name with cosign or a compatible tool."""

    trust: SigstoreTrust
    identity: SignedIdentity = _DEFAULT_IDENTITY


Requirement = InsecureAcceptAnything | Reject | SignedBy | SigstoreSigned

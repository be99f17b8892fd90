"""Who has to have signed, where no key is named but a person or a program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Who has to have signed, and which provider of identities has to have said so."""

    identity: str
    oidc_issuer: str

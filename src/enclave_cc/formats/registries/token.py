"""What is asked of a registry's token service and what it answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.fields import FieldError, Fields

MAX_TOKEN_ANSWER_BYTES: Final = 1 << 20
# The distribution specification's own answer where the service does not say.
DEFAULT_LIFETIME_S: Final = 60
_MAX_LIFETIME_S: Final = 24 * 3600
# What RFC 6750 lets a bearer token consist of; anything else could break out of the header.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/=:-]+")
_MAX_SCOPES: Final = 16
_MAX_SCOPE_CHARS: Final = 512


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A bearer token, how long it is good for, and the identity token that replaces the one used, if any."""

    token: str = field(repr=False)
    lifetime_s: int = DEFAULT_LIFETIME_S
    identity_token: str = field(default="", repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the JSON answer of either kind of request; raise ``ValueError``."""
        fields = Fields(strict_json.loads(data, max_bytes=MAX_TOKEN_ANSWER_BYTES), "token answer")
        token = fields.text("token", default="") or fields.text("access_token")
        if not _TOKEN.fullmatch(token):
            raise FieldError("token answer: a token that is none")
        # Some services write 0 or a negative number for "no idea".
        lifetime_s = fields.integer("expires_in", default=0)
        if lifetime_s <= 0:
            lifetime_s = DEFAULT_LIFETIME_S
        return cls(token, min(lifetime_s, _MAX_LIFETIME_S), fields.text("refresh_token", default=""))


def scope_union(repository: str, *, push: bool, offered: str = "", also_pull: str = "") -> tuple[str, ...]:
    """
    Name what a token has to cover: our own need, and what the registry asked for beside it.

    A request that only reads never asks for more than reading, whatever a registry suggests.
    """
    wanted = {f"repository:{repository}": {"pull", "push"} if push else {"pull"}}
    if also_pull:
        wanted.setdefault(f"repository:{also_pull}", set()).add("pull")
    for scope in offered[: _MAX_SCOPES * _MAX_SCOPE_CHARS].split()[:_MAX_SCOPES]:
        resource, colon, actions = scope.rpartition(":")
        allowed = set(actions.split(",")) & ({"pull", "push"} if push else {"pull"})
        if colon and resource.startswith("repository:") and allowed and len(scope) <= _MAX_SCOPE_CHARS:
            wanted.setdefault(resource, set()).update(allowed)
    return tuple(f"{resource}:{','.join(sorted(actions))}" for resource, actions in wanted.items())

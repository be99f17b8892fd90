"""
What a credential helper answers: ``{"ServerURL", "Username", "Secret"}``.

Helpers are programs. Inside an enclave nobody runs one; there only its answer is accepted, as a
resource of the broker, alone or as a list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.fields import Fields
from enclave_cc.formats.registries.auth_file import MAX_AUTH_FILE_BYTES, AuthFile, invalid_credentials
from enclave_cc.formats.registries.credentials import Credentials, normal_key

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_HELPER_ANSWER_BYTES: Final = 64 << 10
# With this name the secret is an identity token.
_TOKEN_NAME: Final = "<token>"  # noqa: S105  # a name, and not a token
_MEMBERS: Final = ("ServerURL", "Username", "Secret")


def parse_helper_answer(data: bytes) -> Credentials | None:
    """Read one answer, whatever server it names; raise ``InvalidInputError``; None if it has no secret."""
    with invalid_credentials():
        return _credentials(
            Fields(strict_json.loads(data, max_bytes=MAX_HELPER_ANSWER_BYTES), "helper's answer")
        )


def parse_credentials(data: bytes) -> AuthFile:
    """Read an ``auth.json``, one helper's answer or a list of them; raise ``InvalidInputError``."""
    with invalid_credentials():
        match strict_json.loads(data, max_bytes=MAX_AUTH_FILE_BYTES):
            case list() as answers:
                return _from_answers(Fields(answer, "credentials") for answer in answers)
            case {"ServerURL": _} as answer:
                return _from_answers([Fields(answer, "credentials")])
            case other:
                return AuthFile.read(Fields(other, "auth.json"))


def _from_answers(answers: Iterable[Fields]) -> AuthFile:
    found = {}
    for answer in answers:
        answer.only(*_MEMBERS)
        credentials = _credentials(answer)
        if credentials is not None:
            found[normal_key(answer.text("ServerURL"))] = credentials
    return AuthFile(found)


def _credentials(fields: Fields) -> Credentials | None:
    name, secret = fields.text("Username", default=""), fields.text("Secret", default="")
    if not secret:
        return None
    if name == _TOKEN_NAME:
        return Credentials(identity_token=secret)
    return Credentials(name, secret)

"""The owner's key for the broker's tokens: one of P-256, or a refusal with a name."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.kbs.token import load_token_key

# A key of GOST R 34.10-2001, which the library has no code for.
UNKNOWN_KIND = (
    "-----BEGIN PUBLIC KEY-----\nMB0wCAYGKoUDAgITAxEAAAAAAAAAAAAAAAAAAAAAAA==\n-----END PUBLIC KEY-----\n"
)


@pytest.mark.parametrize("pem", ["", "-----BEGIN PUBLIC KEY-----", UNKNOWN_KIND])
def test_what_is_no_key_of_p256_is_refused(pem):
    with pytest.raises(InvalidInputError) as caught:
        load_token_key(pem)
    assert caught.value.code == "broker-token-key-invalid"

"""The token that app enclaves are shown is one that they still accept."""

from __future__ import annotations

import itertools

from enclave_cc.enclave.agent.broker import FRESH_TOKEN_S, AttestedSession


class Connection:
    def __init__(self):
        self._numbers = itertools.count(1)

    def attest(self):
        return f"token-{next(self._numbers)}"


def test_a_preparation_that_took_long_ends_with_a_new_token():
    now = 0.0
    session = AttestedSession(Connection(), "id", clock=lambda: now)
    assert session.fresh_token() == "token-1"
    now = FRESH_TOKEN_S + 1
    assert session.fresh_token() == "token-2"
    assert session.fresh_token() == "token-2"

"""CONFIGID of the two kinds of enclaves: what binds a generic program to one pod and one container."""

from __future__ import annotations

import hashlib
from typing import Final

from enclave_cc.formats.framing import lp

_DOMAIN: Final = b"enclave-cc app v1"
CONFIG_ID_BYTES: Final = 64
AGENT_PRODUCT_ID: Final = 1
APP_PRODUCT_ID: Final = 2


def app_config_id(pod_uid: str, container_id: str) -> bytes:
    """CONFIGID of the app enclave of one container."""
    return hashlib.sha512(lp(_DOMAIN, pod_uid.encode(), container_id.encode())).digest()


def initdata_config_id(initdata_digest: bytes) -> bytes:
    """CONFIGID of an agent: the digest of its owner's initdata, zero-padded; ValueError if it is too long."""
    if len(initdata_digest) > CONFIG_ID_BYTES:
        raise ValueError("an initdata digest has at most 64 bytes")
    return initdata_digest.ljust(CONFIG_ID_BYTES, b"\0")

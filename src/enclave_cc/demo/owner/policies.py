"""
The texts with which the demo's owner says what may happen: signature policy, resource policy, initdata.

They are written as a person would write them for one namespace of a registry; nothing here talks to anybody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = "demo"
WRAPPING_KEY: Final = f"kbs:///{NAMESPACE}/keys/layers"
SIGNING_KEY: Final = f"kbs:///{NAMESPACE}/keys/cosign.pub"
SIGNATURE_POLICY: Final = f"kbs:///{NAMESPACE}/policy/signatures"
# How much a container may write at most; its pod chooses the kind, and less of it.
MEMORY_BYTES: Final = 256 << 20
SCRATCH_BYTES: Final = 1 << 30

# Simulated hardware never counts as hardware, so this owner decides on the registered code alone. That is a
# decision for a demo: it is spelled out here, and the broker announces it when it starts.
RESOURCE_POLICY: Final = f"""package policy

import rego.v1

default allow := false

# insecure: accepts the simulated platform. Registered code, this owner's namespace, nothing else.
allow if {{
	data.plugin == "resource"
	data["resource-path"][0] == "{NAMESPACE}"
	count(input.submods) == 1
	every submod in input.submods {{
		submod["ear.veraison.annotated-evidence"]["sgx-sim"]
		submod["ear.trustworthiness-vector"].executables in numbers.range(2, 31)
	}}
}}
"""


def signature_policy(registry: str) -> bytes:
    """Require the owner's cosign key in the namespace, refuse all else (containers-policy.json(5))."""
    signed = {
        "type": "sigstoreSigned",
        "keyPath": SIGNING_KEY,
        # cosign writes the repository without a tag.
        "signedIdentity": {"type": "matchRepository"},
    }
    scopes = {f"{registry}/{NAMESPACE}": [signed]}
    return json.dumps({"default": [{"type": "reject"}], "transports": {"docker": scopes}}).encode()


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """How enclaves find the broker and know that it is the owner's."""

    url: str
    tls_ca_pem: str
    token_key_pem: str


def initdata(broker: BrokerAddress, *, registry: str) -> bytes:
    """Write the text that becomes part of both enclaves' identity; JSON texts and lists are TOML's."""
    settings = (
        "[broker]",
        f"url = {json.dumps(broker.url)}",
        f"tls_ca = {json.dumps(broker.tls_ca_pem)}",
        f"token_key = {json.dumps(broker.token_key_pem)}",
        "[image]",
        f"signature_policy = {json.dumps(SIGNATURE_POLICY)}",
        "require_encrypted = true",
        f"insecure_http_registries = {json.dumps([registry])}",
        "[rootfs]",
        f"memory_bytes = {MEMORY_BYTES}",
        f"scratch_bytes = {SCRATCH_BYTES}",
        "[workload]",
        "exec = true",
        'args = "image"',
    )
    inner = "\n".join(settings)
    outer = (
        f"version = \"0.1.0\"\nalgorithm = \"sha256\"\n\n[data]\n\"enclave-cc.toml\" = '''\n{inner}\n'''\n"
    )
    return outer.encode()

"""Local attestation, version 3: how an app enclave and the agent enclave prove themselves to each other.

    M1  app → agent   Hello: nonce, X25519 share, TARGETINFO, pod and container
    M2  agent → app   HelloReply: nonce, session, share, broker token; REPORT over everything so far
    M3  app → agent   sealed REPORT over everything so far
    M4  agent → app   sealed key, manifest digest and launch configuration
    then app → agent  sealed reports (outcome of the launch)

Each REPORT is aimed at the peer and its report data is a digest of the whole transcript, so it
authenticates the Diffie-Hellman exchange: a signed exchange in which the processor's MAC plays the
signature. Both sides are pure: they take and return bytes, and time and randomness are handed in.
"""

from __future__ import annotations

from enclave_cc.formats.local_attestation.agent import AgentHandshake
from enclave_cc.formats.local_attestation.app import AppHandshake
from enclave_cc.formats.local_attestation.identity import app_config_id, initdata_config_id
from enclave_cc.formats.local_attestation.policy import AppPolicy
from enclave_cc.formats.local_attestation.release import Release

__all__ = ["AgentHandshake", "AppHandshake", "AppPolicy", "Release", "app_config_id", "initdata_config_id"]

"""Launching: measure a bundle, compose its identity, bind it to the process (ECREATE to EINIT in one)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.local_attestation.identity import (
    AGENT_PRODUCT_ID,
    APP_PRODUCT_ID,
    CONFIG_ID_BYTES,
    initdata_config_id,
)
from enclave_cc.formats.sgx.measurement import mr_enclave
from enclave_cc.formats.sgx.report import Attribute, ReportBody
from enclave_cc.platform.measurement import MeasurementCache, measure_bundle
from enclave_cc.platform.simulated.enclaves import Enclave, EnclaveRegistry, hold, refused_launch

if TYPE_CHECKING:
    from enclave_cc.platform.measurement import BundleMeasurement

# There is no author's signature in simulation; MRSIGNER says so for every enclave alike.
SIMULATED_MR_SIGNER: Final = hashlib.sha256(b"enclave-cc simulated SGX: enclaves are not signed").digest()
_ISV_SVN: Final = 1


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What the shim asks for; `config_id` only for app enclaves, an agent's follows from its initdata."""

    pid: int
    bundle: str
    initdata: bytes
    config_id: bytes


class Launcher:
    """Launches enclaves, with DEBUG set unless `debug` is false, which is for interoperability tests."""

    def __init__(self, registry: EnclaveRegistry, *, debug: bool = True) -> None:
        self._registry = registry
        self._flags = Attribute.INIT | Attribute.MODE64 | Attribute.KSS
        if debug:
            # The truth: the machine's owner can read this enclave's memory.
            self._flags |= Attribute.DEBUG
        self._cache = MeasurementCache()

    def launch(self, request: LaunchRequest) -> ReportBody:
        """Measure, bind, return the identity. RefusedError, or InvalidInputError for bundle or initdata."""
        bundle = Path(request.bundle)
        if not bundle.is_absolute():
            raise refused_launch("the bundle's path is not absolute")
        with hold(request.pid) as process:
            digest = initdata_digest(request.initdata)
            measurement = measure_bundle(bundle, self._cache)
            identity = ReportBody(
                flags=self._flags,
                mr_enclave=mr_enclave(measurement.base, digest),
                mr_signer=SIMULATED_MR_SIGNER,
                config_id=_config_id(measurement, digest, request.config_id),
                isv_prod_id=measurement.product_id,
                isv_svn=_ISV_SVN,
            )
            self._registry.record(process, Enclave(identity, digest))
        return identity


def _config_id(measurement: BundleMeasurement, initdata: bytes, requested: bytes) -> bytes:
    """CONFIGID: an agent's is its initdata, an app's is given and must say something."""
    if measurement.product_id == AGENT_PRODUCT_ID:
        if requested:
            raise refused_launch("an agent's CONFIGID follows from its initdata")
        return initdata_config_id(initdata)
    if measurement.product_id != APP_PRODUCT_ID:
        raise refused_launch("unknown product id")
    if len(requested) != CONFIG_ID_BYTES or not any(requested):
        raise refused_launch("an app enclave needs a CONFIGID of 64 bytes that is not zero")
    return requested

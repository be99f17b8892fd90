"""The simulated platform put together: state, processor, PKI, quoting enclave, enclaves and collateral."""

from __future__ import annotations

import datetime as dt
import os
import threading
from typing import TYPE_CHECKING, Final

from enclave_cc.platform.simulated.collateral import INTEROP, CollateralFaults, sign_collateral
from enclave_cc.platform.simulated.enclaves import EnclaveRegistry
from enclave_cc.platform.simulated.launch import Launcher
from enclave_cc.platform.simulated.pki import SimulatedPki
from enclave_cc.platform.simulated.processor import SimulatedCpu
from enclave_cc.platform.simulated.quoting import QuotingEnclave

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.dcap.collateral import Collateral
    from enclave_cc.formats.sgx.report import ReportBody
    from enclave_cc.platform.simulated.state import PlatformState

_FUSE_KEY_BYTES: Final = 32
_REFRESH: Final = dt.timedelta(days=1)
# A verifier's clock may be a little behind ours.
_BACKDATE: Final = dt.timedelta(minutes=10)


class SimulatedPlatform:
    """One platform. `interop` makes quotes that strict verifiers accept and exists for tests only."""

    def __init__(
        self, state: PlatformState, clock: Callable[[], dt.datetime], *, interop: bool = False
    ) -> None:
        self._state = state
        self._clock = clock
        self._faults = INTEROP if interop else CollateralFaults()
        self.cpu = SimulatedCpu(
            fuse_key=state.secret("fuse.key", lambda: os.urandom(_FUSE_KEY_BYTES)),
            report_key_id=os.urandom(32),
        )
        self.pki = SimulatedPki(state.secret, now=clock(), interop=interop)
        self.quoting = QuotingEnclave(self.cpu, self.pki)
        self.enclaves = EnclaveRegistry()
        self.launcher = Launcher(self.enclaves, debug=not interop)
        self._lock = threading.Lock()
        self._collateral: tuple[dt.datetime, Collateral] | None = None
        state.publish("root.der", self.pki.root.der)
        self.collateral()

    @property
    def root_der(self) -> bytes:
        """The simulated root of trust."""
        return self.pki.root.der

    def collateral(self) -> Collateral:
        """Collateral of at most a day's age; a fresh one is also published as a file."""
        now = self._clock()
        with self._lock:
            if self._collateral is None or not now - self._collateral[0] < _REFRESH:
                fresh = sign_collateral(self.pki, now - _BACKDATE, self._faults)
                self._state.publish("collateral.json", fresh.to_json())
                self._collateral = (now, fresh)
            return self._collateral[1]

    def quote(self, identity: ReportBody, report_data: bytes) -> bytes:
        """Report by the enclave with this identity to the quoting enclave, and its quote."""
        return self.quoting.quote(self.cpu.report(identity, self.quoting.target_info, report_data))

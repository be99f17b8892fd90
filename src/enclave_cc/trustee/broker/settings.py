"""
The broker's settings: one TOML file, unknown names refused, relative paths beside the file.

Whatever weakens the broker is named ``insecure_…`` and announced when it starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner import bounded_toml
from enclave_cc.trustee.appraisal.collateral import INTEL_PCS, URL_SCHEMES

if TYPE_CHECKING:
    from pathlib import Path

_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """Accept evidence of one simulated platform: its root, and a file or PCS address for its collateral."""

    root: Path
    collateral: str


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Everything that differs between two brokers."""

    host: str
    port: int
    store: Path
    admin_token: Path
    token_key: Path
    tls_cert: Path | None
    tls_key: Path | None
    pcs: str
    simulation: SimulationSettings | None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; raise ``InvalidInputError`` (``broker-settings-invalid``)."""
        try:
            text = path.read_bytes()
            return cls._parse(Fields(bounded_toml.loads(text), path.name), path.parent)
        except (OSError, bounded_toml.InvalidTomlError, FieldError) as error:
            raise InvalidInputError(
                "broker-settings-invalid",
                "the broker's settings are not valid",
                stage=Stage.CONFIG,
                detail=str(error),
            ) from error

    @classmethod
    def _parse(cls, fields: Fields, folder: Path) -> Self:
        fields.only(
            "listen",
            "store",
            "admin_token",
            "token_key",
            "tls_cert",
            "tls_key",
            "insecure_http",
            "sgx",
            "simulation",
        )
        host, port = _listen(fields)
        tls = _tls(fields, folder)
        sgx = fields.object("sgx")
        sgx.only("pcs")
        return cls(
            host=host,
            port=port,
            store=folder / fields.text("store"),
            admin_token=folder / fields.text("admin_token"),
            token_key=folder / fields.text("token_key"),
            tls_cert=tls[0],
            tls_key=tls[1],
            pcs=sgx.text("pcs", default=INTEL_PCS),
            simulation=_simulation(fields, folder),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say what is weaker than it should be."""
        warnings = []
        if self.tls_cert is None:
            warnings.append("insecure_http: answers are not authenticated; use this behind a TLS proxy only")
        if self.simulation is not None:
            warnings.append(
                "insecure_accept_simulation: evidence of a simulated platform is accepted; it proves nothing"
            )
        return tuple(warnings)


def _listen(fields: Fields) -> tuple[str, int]:
    host, _, port = fields.text("listen").rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        raise fields.error("listen", "is not an address and a port")
    return host.strip("[]"), int(port)


def _tls(fields: Fields, folder: Path) -> tuple[Path | None, Path | None]:
    if fields.boolean("insecure_http", default=False):
        if fields.has("tls_cert") or fields.has("tls_key"):
            raise fields.error("insecure_http", "contradicts tls_cert and tls_key")
        return None, None
    return folder / fields.text("tls_cert"), folder / fields.text("tls_key")


def _simulation(fields: Fields, folder: Path) -> SimulationSettings | None:
    if not fields.has("simulation"):
        return None
    simulation = fields.object("simulation")
    simulation.only("insecure_accept_simulation", "root", "collateral")
    if not simulation.boolean("insecure_accept_simulation", default=False):
        return None
    collateral = simulation.text("collateral")
    if not collateral.startswith(URL_SCHEMES):
        collateral = str(folder / collateral)
    return SimulationSettings(folder / simulation.text("root"), collateral)

"""Puts a broker together from its settings: the only place that knows all parts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import enclave_cc
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.dcap.certificates import CertificateError
from enclave_cc.formats.dcap.trusted_root import IntelRoot, SimulatedRoot
from enclave_cc.trustee.appraisal.appraiser import Appraiser
from enclave_cc.trustee.appraisal.collateral import URL_SCHEMES, CollateralFile, collateral_service
from enclave_cc.trustee.appraisal.ear import TokenIssuer
from enclave_cc.trustee.appraisal.evidence import SgxVerifier, Tee
from enclave_cc.trustee.audit.allowance import Allowance
from enclave_cc.trustee.audit.log import AuditLog
from enclave_cc.trustee.broker.admin_gate import AdminGate
from enclave_cc.trustee.broker.administration import AdministrationRoutes
from enclave_cc.trustee.broker.attested import ClientRecognition
from enclave_cc.trustee.broker.explain import ExplainRoutes
from enclave_cc.trustee.broker.findings import FindingsRoutes
from enclave_cc.trustee.broker.rcar import HandshakeRoutes
from enclave_cc.trustee.broker.resources import ResourceRoutes
from enclave_cc.trustee.broker.sessions import SessionTable
from enclave_cc.trustee.policy.engine import PolicyEngine
from enclave_cc.trustee.policy.library import PolicyLibrary
from enclave_cc.trustee.reference_values.register import ReferenceValues
from enclave_cc.trustee.resources.repository import ResourceRepository
from enclave_cc.trustee.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enclave_cc.formats.dcap.collateral import Collateral
    from enclave_cc.trustee.broker.exchange import Route
    from enclave_cc.trustee.broker.settings import BrokerSettings, SimulationSettings
    from enclave_cc.trustee.stores.port import Store

# Shorter than this, a token could be guessed; ours have 43 characters.
_MIN_ADMIN_TOKEN_CHARS = 32


@dataclass(frozen=True, slots=True)
class Broker:
    """The routes, and what has to be closed behind them."""

    routes: Mapping[tuple[str, str], Route]
    audit: AuditLog
    refusals: Allowance
    store: Store
    engine: PolicyEngine

    def close(self) -> None:
        """Stop the policy workers and close the store."""
        self.engine.close()
        self.store.close()


def compose(settings: BrokerSettings) -> Broker:
    """Read secrets, open the store, wire everything; raise ``InvalidInputError`` for an unusable part."""
    admin = AdminGate.with_token(_admin_token(settings.admin_token))
    issuer = TokenIssuer(_token_key(settings.token_key), f"enclave-cc {enclave_cc.__version__}", _now)
    verifiers = _verifiers(settings)
    store, engine = SqliteStore(settings.store), PolicyEngine()
    audit, values, policies = (
        AuditLog(store, _now),
        ReferenceValues(store, _now),
        PolicyLibrary(store, engine),
    )
    sessions = SessionTable(_now)
    clients = ClientRecognition(sessions, issuer)
    appraiser = Appraiser(verifiers, values, policies, engine, issuer)
    resources = ResourceRoutes(clients, admin, ResourceRepository(store), policies, values, engine, audit)
    groups = (
        HandshakeRoutes(sessions, appraiser, audit, Allowance(time.monotonic)),
        resources,
        AdministrationRoutes(admin, policies, values, audit),
        FindingsRoutes(clients, audit, Allowance(time.monotonic)),
        ExplainRoutes(admin, audit),
    )
    routes = {key: route for group in groups for key, route in group.routes().items()}
    return Broker(routes, audit, Allowance(time.monotonic), store, engine)


def _now() -> datetime:
    return datetime.now(UTC)


def _verifiers(settings: BrokerSettings) -> dict[Tee, SgxVerifier]:
    intel = SgxVerifier(Tee.SGX, IntelRoot(), collateral_service(settings.pcs, _now), _now)
    verifiers = {Tee.SGX: intel}
    if settings.simulation is not None:
        verifiers[Tee.SGX_SIM] = _simulated(settings.simulation)
    return verifiers


def _simulated(simulation: SimulationSettings) -> SgxVerifier:
    try:
        root = SimulatedRoot(simulation.root.read_bytes())
    except (OSError, CertificateError) as error:
        raise _unusable(f"simulation.root: {error}") from error
    return SgxVerifier(Tee.SGX_SIM, root, _simulated_collateral(simulation.collateral), _now)


def _simulated_collateral(source: str) -> Callable[[bytes], Collateral]:
    if source.startswith(URL_SCHEMES):
        return collateral_service(source, _now)
    return CollateralFile(Path(source))


def _admin_token(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(f"admin_token: {error}") from error
    if len(token) < _MIN_ADMIN_TOKEN_CHARS:
        raise _unusable("admin_token: is too short")
    return token


def _token_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(f"token_key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _unusable("token_key: is not a P-256 key")
    return key


def _unusable(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "broker-settings-invalid", "the broker's settings are not valid", stage=Stage.CONFIG, detail=detail
    )

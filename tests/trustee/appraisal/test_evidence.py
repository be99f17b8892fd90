"""Evidence under its own root only, and claims as existing policies read them."""

from __future__ import annotations

import base64
import datetime as dt
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_cc.core.errors import EnclaveCcError, RefusedError, UnavailableError
from enclave_cc.formats.dcap.collateral import Collateral
from enclave_cc.formats.dcap.trusted_root import IntelRoot, SimulatedRoot
from enclave_cc.formats.dcap.verify import verify_quote
from enclave_cc.formats.jose.jwk import EcPublicJwk
from enclave_cc.formats.kbs.messages import Attestation
from enclave_cc.formats.kbs.runtime_data import report_data
from enclave_cc.formats.sgx.quote import QuoteV3
from enclave_cc.platform.simulated.pcs_server import PcsServer
from enclave_cc.trustee.appraisal.claims import sgx_claims
from enclave_cc.trustee.appraisal.collateral import (
    MAX_AGE,
    CollateralCache,
    CollateralFile,
    collateral_service,
)
from enclave_cc.trustee.appraisal.evidence import SgxVerifier, Tee

KEY = EcPublicJwk.of(ec.generate_private_key(ec.SECP256R1()).public_key(), algorithm="ECDH-ES+A256KW")


def now():
    return dt.datetime.now(dt.UTC)


@pytest.fixture
def verifier(platform):
    root = SimulatedRoot(platform.pki.root.der)
    return SgxVerifier(Tee.SGX_SIM, root, lambda _: platform.collateral(), now)


@pytest.fixture
def attestation(platform):
    return Attestation("nonce", KEY, platform.evidence(report_data("nonce", KEY)))


def test_genuine_evidence_of_the_simulated_platform_is_verified(verifier, attestation):
    evidence = verifier.verify(attestation)
    assert evidence.mr_enclave == bytes(range(32)).hex()
    assert evidence.claims["tcb_status"] == "SWHardeningNeeded"
    assert evidence.claims["debug"] is True
    assert evidence.claims["isv_svn_int"] == 0


def test_simulated_evidence_is_refused_under_the_intel_root(verifier, attestation):
    with pytest.raises(RefusedError) as caught:
        replace(verifier, tee=Tee.SGX, root=IntelRoot()).verify(attestation)
    assert caught.value.findings


def test_another_nonce_is_refused(verifier, attestation):
    with pytest.raises(RefusedError) as caught:
        verifier.verify(replace(attestation, nonce="other"))
    assert caught.value.code == "evidence-not-bound"


def test_another_key_is_refused(verifier, attestation):
    key = EcPublicJwk.of(ec.generate_private_key(ec.SECP256R1()).public_key(), algorithm="ECDH-ES+A256KW")
    with pytest.raises(RefusedError) as caught:
        verifier.verify(replace(attestation, tee_key=key))
    assert caught.value.code == "evidence-not-bound"


@pytest.mark.parametrize("evidence", [{}, {"quote": 7}, {"quote": "*"}, {"quote": ""}, {"quote": "AAAA"}, []])
def test_evidence_that_is_none_is_refused(verifier, attestation, evidence):
    with pytest.raises(EnclaveCcError):
        verifier.verify(replace(attestation, primary_evidence=evidence))


@pytest.mark.parametrize("init_data", ["", "not toml", 'version = "9"', "\ud800"])
def test_init_data_that_is_none_is_refused(verifier, attestation, init_data):
    if not init_data:
        # An empty text has the empty digest: it is what an enclave without init-data has measured.
        assert verifier.verify(replace(attestation, init_data=init_data))
        return
    with pytest.raises(EnclaveCcError):
        verifier.verify(replace(attestation, init_data=init_data))


def test_every_genuine_vector_gives_the_claims_that_policies_read(vectors):
    base = vectors / "sgx"
    seen = 0
    for entry in json.loads((base / "README.json").read_text())["genuine"]:
        quote = (base / entry["quote"]).read_bytes()
        collateral = Collateral.from_json((base / entry["collateral"]).read_bytes())
        moment = dt.datetime.fromtimestamp(entry["now"], dt.UTC)
        verifier = SgxVerifier(Tee.SGX, IntelRoot(), lambda _, found=collateral: found, lambda at=moment: at)
        message = Attestation("nonce", KEY, {"quote": base64.b64encode(quote).decode()})
        with pytest.raises(RefusedError) as caught:
            verifier.verify(message)
        # The quotes of others are genuine, and of another handshake.
        assert caught.value.code == "evidence-not-bound"
        (failed,) = [finding for finding in caught.value.findings if finding.outcome == "failed"]
        assert failed.rule == "sgx.report_data"
        seen += 1
    assert seen


def test_collateral_is_kept_for_a_while_and_not_longer(platform):
    quote = base64.b64decode(platform.evidence(bytes(48))["quote"])
    fetched, clock = [], [now()]

    def fetch(_):
        fetched.append(1)
        return platform.collateral()

    cache = CollateralCache(fetch, lambda: clock[0])
    cache(quote)
    cache(quote)
    assert len(fetched) == 1
    clock[0] += MAX_AGE
    cache(quote)
    assert len(fetched) == 2
    with pytest.raises(RefusedError):
        cache(b"no quote")


def test_a_collateral_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "file").write_text("{}")
    for name in ("file", "absent"):
        with pytest.raises(EnclaveCcError):
            CollateralFile(tmp_path / name)(b"")


def test_collateral_of_a_simulated_platform_is_fetched(platform, attestation):
    server = PcsServer(("127.0.0.1", 0), platform.collateral)
    server.start()
    source = collateral_service(server.url, now)
    verifier = SgxVerifier(Tee.SGX_SIM, SimulatedRoot(platform.pki.root.der), source, now)
    assert verifier.verify(attestation).isv_prod_id == 1
    server.stop()
    # The second time nobody has to answer.
    assert verifier.verify(attestation).isv_prod_id == 1


def test_a_collateral_service_that_is_away_is_no_refusal(platform, attestation):
    root = SimulatedRoot(platform.pki.root.der)
    verifier = SgxVerifier(Tee.SGX_SIM, root, collateral_service("http://127.0.0.1:9", now), now)
    with pytest.raises(UnavailableError):
        verifier.verify(attestation)


def test_claims_of_a_genuine_quote_are_named_as_existing_policies_read_them(vectors):
    base = vectors / "sgx"
    entry = json.loads((base / "README.json").read_text())["genuine"][0]
    quote = (base / entry["quote"]).read_bytes()
    collateral = Collateral.from_json((base / entry["collateral"]).read_bytes())
    moment = dt.datetime.fromtimestamp(entry["now"], dt.UTC)
    claims = sgx_claims(quote, verify_quote(quote, collateral, IntelRoot(), moment))
    assert claims["body"]["mr_enclave"] == entry["mr_enclave"]
    assert claims["body"]["mr_signer"] == entry["mr_signer"]
    assert claims["debug"] is entry["debug"]
    assert claims["isv_svn_int"] == entry["isv_svn"]
    assert claims["tcb_status"] == entry["expected"]["dcap_qvl_0_7_0"]["status"]
    assert set(claims["advisory_ids"]) == set(entry["expected"]["dcap_qvl_0_7_0"]["advisory_ids"])
    assert claims["header"]["version"] == "0300"
    assert claims["header"]["vendor_id"] == "939a7233f79c4ca9940a0db3957f0607"
    assert claims["sgx_type"] == "Standard"
    assert claims["collateral_expiration_status"] == "0"
    assert claims["earliest_issue_date"].endswith("Z")
    assert {"attributes.flags", "attributes.xfrm", "config_id", "isv_family_id"} <= set(claims["body"])
    assert bytes.fromhex("".join(claims["body"].values())) == quote[48:432]
    assert bytes.fromhex("".join(claims["header"].values())) == quote[:48]


def test_nothing_is_fetched_for_a_chain_under_another_root(attestation):
    def fetch(_):
        raise AssertionError("a stranger made the broker fetch")

    with pytest.raises(RefusedError) as caught:
        SgxVerifier(Tee.SGX, IntelRoot(), fetch, now).verify(attestation)
    assert caught.value.code == "quote-root-unknown"


def test_the_spelling_of_a_chain_does_not_cost_another_fetch(platform):
    quote = base64.b64decode(platform.evidence(bytes(48))["quote"])
    chain = QuoteV3.parse(quote).certification_data
    fetched = []

    def fetch(_):
        fetched.append(1)
        return platform.collateral()

    cache = CollateralCache(fetch, now)
    for spelling in (chain, chain + bytes(4), b"a comment\n" + chain):
        rewritten = quote.replace(chain, spelling)
        sizes = [len(data).to_bytes(4, "little") for data in (chain, spelling)]
        # The length of the chain stands before it, and the length of all signature data before that.
        start = rewritten.index(spelling)
        rewritten = rewritten[: start - 4] + sizes[1] + rewritten[start:]
        total = int.from_bytes(quote[432:436], "little") + len(spelling) - len(chain)
        cache(rewritten[:432] + total.to_bytes(4, "little") + rewritten[436:])
    assert len(fetched) == 1

"""A TD's evidence in the service: what a record keeps is enough to decide again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from attest.broker.appraise import Bound, appraise
from attest.broker.collateral import ServiceCollateral
from attest.broker.collateral_intel import IntelCollateralService
from attest.broker.evidence_record import findings
from attest.broker.present_tdx import PresentedTd, present_tdx, restore_tdx
from attest.broker.presented import Memory
from attest.collateral.intel_folder import IntelFolder
from attest.endorsement.errors import VerificationFailed
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate
from attest.evidence.pem import parse_pem
from attest.evidence.quote import parse_quote
from attest.evidence.tdx_json import encode_tdx_json
from policy.document import PolicyDocument, parse_policy
from tests.unit.attest.evidence.quotes import make_quote

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def _policy(root: str) -> PolicyDocument:
    text = (files("policy") / "documents" / "demo.toml").read_text()
    return parse_policy(text.replace("@EMULATED_ROOT@", root).encode())


@pytest.fixture
def synthetic(vectors: Path) -> Path:
    return vectors / "tdx" / "synthetic"


@pytest.fixture
def document(synthetic: Path) -> PolicyDocument:
    (root,) = parse_pem((synthetic / "root.pem").read_bytes())
    return _policy(IntelCertificate.parse(root.data).spki_sha256.hex())


def _presented(synthetic: Path, tmp_path: Path, document: PolicyDocument, log: bytes | None = None) -> PresentedTd:
    """The baseline quote, with its collateral in an operator's folder."""
    for path in (*synthetic.glob("*.pem"), *(synthetic / "baseline-v4").glob("*[a-z].*")):
        if path.name != "quote.bin":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    quote = (synthetic / "baseline-v4" / "quote.bin").read_bytes()
    collateral = ServiceCollateral(intel=IntelCollateralService(IntelFolder(tmp_path)))
    return present_tdx(encode_tdx_json(quote, log), collateral, document, bytes(64), NOW)


def _kept(presented: PresentedTd) -> tuple[dict[str, Any], Callable[[str], bytes]]:
    """What a record holds after a round through JSON, and its blobs."""
    blobs: dict[str, bytes] = {}

    def put(data: bytes) -> bytes:
        digest = hashlib.sha256(data)
        blobs[digest.hexdigest()] = data
        return digest.digest()

    kept = presented.keep(put)
    return json.loads(json.dumps(kept, default=lambda value: value.hex())), blobs.__getitem__


def test_a_decision_repeats_from_what_its_record_keeps(
    synthetic: Path, tmp_path: Path, document: PolicyDocument
) -> None:
    presented = _presented(synthetic, tmp_path, document)
    bound = Bound(presented.quote.body.report_data)
    found = appraise(presented, bound, (document, ()), now=NOW)
    assert found.claims is not None
    assert found.claims.tdx.tcb.status.value == "UpToDate"
    assert presented.launch_digest == found.claims.launch_digest
    again = appraise(restore_tdx(*_kept(presented)), bound, (document, ()), now=NOW)
    assert findings(again) == findings(found)


def test_the_same_folder_is_judged_from_memory(synthetic: Path, tmp_path: Path, document: PolicyDocument) -> None:
    memory = Memory()
    presented = _presented(synthetic, tmp_path, document)
    first = presented.verify(presented.quote.body.report_data, document, NOW, memory)
    second = presented.verify(presented.quote.body.report_data, document, NOW, memory)
    assert first.tdx.tcb is second.tdx.tcb


def test_the_binding_is_to_all_64_bytes(synthetic: Path, tmp_path: Path, document: PolicyDocument) -> None:
    presented = _presented(synthetic, tmp_path, document)
    wrong = presented.quote.body.report_data[:-1] + b"\x7f"
    failure = appraise(presented, Bound(wrong), (document, ()), now=NOW).failure
    assert isinstance(failure, VerificationFailed)
    assert failure.step == "binding"


@pytest.mark.parametrize("digest", [b"\x55" * 32, b"\x55" * 48, b"\x55" * 64])
def test_init_data_that_mrconfigid_does_not_bind_is_refused(
    synthetic: Path, tmp_path: Path, document: PolicyDocument, digest: bytes
) -> None:
    presented = _presented(synthetic, tmp_path, document)
    failure = appraise(presented, Bound(presented.quote.body.report_data, digest), (document, ()), now=NOW).failure
    assert failure is not None
    assert f"the init-data sent gives {digest[:48].ljust(48, bytes(1)).hex()}" in failure.message


def test_a_policy_without_the_root_refuses_the_quote(synthetic: Path, tmp_path: Path) -> None:
    other = _policy("ab" * 32)
    presented = _presented(synthetic, tmp_path, other)
    failure = appraise(presented, Bound(presented.quote.body.report_data), (other, ()), now=NOW).failure
    assert isinstance(failure, VerificationFailed)
    assert failure.step == "root"


def test_without_collateral_the_service_is_unavailable_not_the_guest_at_fault(
    synthetic: Path, document: PolicyDocument
) -> None:
    quote = (synthetic / "baseline-v4" / "quote.bin").read_bytes()
    presented = present_tdx(encode_tdx_json(quote, None), ServiceCollateral(), document, bytes(64), NOW)
    found = appraise(presented, Bound(presented.quote.body.report_data), (document, ()), now=NOW)
    assert found.outcome == "unavailable"


def test_the_quote_of_an_enclave_is_no_evidence_of_a_td() -> None:
    with pytest.raises(EvidenceMalformed, match="SGX enclave"):
        present_tdx(
            encode_tdx_json(make_quote(3, "sgx"), None), ServiceCollateral(), _policy("ab" * 32), bytes(64), NOW
        )


def test_a_log_that_is_none_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="event log"):
        present_tdx(encode_tdx_json(make_quote(), b"log"), ServiceCollateral(), _policy("ab" * 32), bytes(64), NOW)


def test_a_record_keeps_only_what_can_matter(synthetic: Path, tmp_path: Path, document: PolicyDocument) -> None:
    other = synthetic / "fmspc-mismatch" / "tcb_info.json"
    (tmp_path / "other.json").write_bytes(other.read_bytes())
    presented = _presented(synthetic, tmp_path, document)
    kept, blob = _kept(presented)
    assert len(kept["tcb_infos"]) <= len(presented.collateral.tcb_infos)
    assert parse_quote(blob(kept["quote"])).raw == presented.quote.raw

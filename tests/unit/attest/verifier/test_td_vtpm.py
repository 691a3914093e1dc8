"""A TD under Azure's paravisor: one broken knob at a time. Its quote's own verification is tested elsewhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from attest.endorsement.errors import VerificationFailed
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.recognise import QuoteEvidence, parse_evidence, parse_json_evidence
from attest.evidence.vtpm import VtpmEvidence
from attest.verifier.vtpm import verify_vtpm
from tests.fakes.azure import FakeAzure, b64url
from tests.unit.attest.evidence.quotes import make_quote, make_tdreport

OTHER = tuple(bytes([99]) * 32 for _ in range(24))
MRTD = b"\x4d" * 48


def td_evidence(azure: FakeAzure, *, reported: bytes | None = None, quoted_mrtd: bytes = MRTD) -> dict[str, Any]:
    """Evidence whose TDREPORT and TD quote carry the hash of the variable data."""
    bound = hashlib.sha256(azure.variable_data).digest() + bytes(32)
    body = bytes(136) + quoted_mrtd + bytes(336) + bound
    tdreport = make_tdreport(mrtd=MRTD, report_data=bound) if reported is None else reported
    return azure.td_evidence(tdreport, make_quote(body=body))


def vtpm_of(value: dict[str, Any]) -> VtpmEvidence:
    evidence = parse_evidence(json.dumps(value).encode())
    assert isinstance(evidence, QuoteEvidence)
    assert evidence.kind == "azure-vtpm-tdx"
    assert evidence.vtpm is not None
    return evidence.vtpm


@pytest.mark.parametrize("version", [0, 1])
def test_the_unbroken_evidence_is_bound_and_fresh(version: int) -> None:
    vtpm = vtpm_of(td_evidence(FakeAzure(version=version)))
    assert vtpm.td_quote is not None
    assert vtpm.td_quote.body.report_data == vtpm.hcl.expected_report_data
    verify_vtpm(vtpm, expected_challenge=b"challenge")
    verify_vtpm(vtpm, expected_challenge=None)


@pytest.mark.parametrize(
    ("azure", "step"),
    [
        (FakeAzure(version=1, signer="somebody"), "signature"), (FakeAzure(version=1, pcrs=OTHER), "signature"),
        (FakeAzure(version=1, challenge=b"another"), "binding"),
    ],
)  # fmt: skip
def test_one_broken_knob_fails_in_its_step(azure: FakeAzure, step: str) -> None:
    with pytest.raises(VerificationFailed) as caught:
        verify_vtpm(vtpm_of(td_evidence(azure)), expected_challenge=b"challenge")
    assert caught.value.step == step


def test_the_quote_of_another_td_is_refused() -> None:
    vtpm = vtpm_of(td_evidence(FakeAzure(version=1), quoted_mrtd=b"\1" * 48))
    with pytest.raises(VerificationFailed, match="mrtd differ"):
        verify_vtpm(vtpm, expected_challenge=b"challenge")


@pytest.mark.parametrize("version", [2, 3, "1", True])
def test_a_version_that_does_not_exist_for_tds_is_unsupported(version: object) -> None:
    with pytest.raises(EvidenceUnsupported, match="with a TD quote"):
        vtpm_of(td_evidence(FakeAzure(version=1, changes={"version": version})))


@pytest.mark.parametrize(
    "changes",
    [
        {"td_quote": "!"}, {"td_quote": b64url(b"short")}, {"hcl_report": 5}, {"tpm_quote": None},
        {"hcl_report": b64url(FakeAzure().blob)},
    ],
    ids=["quote-base64", "quote", "hcl", "tpm-quote", "snp-report"],
)  # fmt: skip
def test_evidence_of_the_wrong_shape_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceMalformed):
        vtpm_of(td_evidence(FakeAzure(version=1, changes=changes)))


def test_a_tdreport_needs_a_td_quote() -> None:
    value = td_evidence(FakeAzure(version=1))
    snp = FakeAzure(changes={"hcl_report": value["hcl_report"]}).evidence
    with pytest.raises(EvidenceMalformed, match="without a TD quote"):
        parse_json_evidence("azure-vtpm", snp)


def test_an_sgx_quote_is_no_td_quote() -> None:
    value = td_evidence(FakeAzure(version=1)) | {"td_quote": b64url(make_quote(3, "sgx"))}
    with pytest.raises(EvidenceMalformed, match="want a TD quote"):
        verify_vtpm(vtpm_of(value), expected_challenge=None)

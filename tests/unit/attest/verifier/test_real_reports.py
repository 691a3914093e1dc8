"""Every real report has the outcome its manifest states; every altered one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.errors import EvidenceUnsupported
from attest.evidence.recognise import parse_snp_evidence
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from attest.verifier.vtpm import verify_vtpm
from policy.errors import CvmError
from policy.vocab import Platform
from tests.unit.attest.verifier.vector_files import CHECKED_ON, clock_for, listed, read, verify_files


def test_every_listed_report_has_its_stated_outcome(vectors: Path) -> None:
    outcomes = {"genuine": 0, "unavailable": 0, "unsupported": 0}
    for entry in listed(vectors, "report"):
        (raw,) = read(vectors, [entry["file"]])
        try:
            claims = verify_files(vectors, raw, entry["endorsement_files"], entry["chain_files"])
        except EndorsementMissing:
            assert not entry["endorsement_files"], entry["file"]
            outcomes["unavailable"] += 1
        except EvidenceUnsupported:
            assert entry["facts"]["version"] == 1, entry["file"]
            outcomes["unsupported"] += 1
        else:
            assert entry["verification"]["signature"] is entry["verification"]["chain"] is True
            assert claims.platform is Platform.SEV_SNP
            assert claims.snp.product.value == entry["product"]
            assert claims.snp.measurement.hex() == entry["facts"]["measurement"]
            assert claims.snp.reported_tcb.to_bytes().hex() == entry["facts"]["reported_tcb"]["raw"]
            outcomes["genuine"] += 1
    assert outcomes["genuine"] >= 45
    assert outcomes["unavailable"] >= 10
    assert outcomes["unsupported"] >= 1


def test_no_report_is_believed_without_its_certificates(vectors: Path) -> None:
    for entry in listed(vectors, "report"):
        (raw,) = read(vectors, [entry["file"]])
        with pytest.raises((EndorsementMissing, EvidenceUnsupported)):
            verify_files(vectors, raw, [], entry["chain_files"])
        if entry["endorsement_files"]:
            with pytest.raises(EndorsementMissing):
                verify_files(vectors, raw, entry["endorsement_files"], [])


def test_a_report_finds_its_certificates_in_a_library_of_all(vectors: Path) -> None:
    files = [entry["file"] for entry in listed(vectors, "vcek", "vlek", "ark", "ask", "asvk")]
    pool = EndorsementSet.from_der(read(vectors, files))
    for entry in listed(vectors, "report"):
        (raw,) = read(vectors, [entry["file"]])
        now = clock_for(read(vectors, entry["endorsement_files"]))
        report = SnpReport.parse(raw)
        if entry["endorsement_files"]:
            verify_snp(report, pool, anchors=TrustAnchors.amd(), now=now, expected_report_data=None)
        else:
            with pytest.raises((EndorsementMissing, EvidenceUnsupported)):
                verify_snp(report, pool, anchors=TrustAnchors.amd(), now=now, expected_report_data=None)


def test_a_perfect_chain_under_a_self_made_root_is_refused(vectors: Path) -> None:
    for entry in listed(vectors, "forged_report"):
        (raw,) = read(vectors, [entry["file"]])
        with pytest.raises(VerificationFailed) as caught:
            verify_files(vectors, raw, entry["endorsement_files"], entry["chain_files"])
        assert caught.value.step == "root"
        genuine = [name.replace("forged/", "anchors/") for name in entry["chain_files"]]
        with pytest.raises(VerificationFailed) as caught:
            verify_files(vectors, raw, entry["endorsement_files"], genuine)
        assert caught.value.step == "leaf"


def _mutations(vectors: Path, which: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((vectors / "snp" / "mutations.json").read_text())[which]
    return found


def _patched(data: bytes, case: dict[str, Any]) -> bytes:
    changed = bytearray(data)
    for patch in case.get("patches", []):
        value = bytes.fromhex(patch["hex"])
        changed[patch["offset"] : patch["offset"] + len(value)] = value
    return bytes(changed[: case.get("truncate")]) + bytes.fromhex(case.get("append", ""))


def test_every_mutation_of_a_real_report_is_refused(vectors: Path) -> None:
    reports = {entry["file"]: entry for entry in listed(vectors, "report")}
    seen = 0
    for case in _mutations(vectors, "cases"):
        entry = reports[case["base"]]
        (raw,) = read(vectors, [case["base"]])
        changed = _patched(raw, case)
        if case["expect"] == "signature still verifies":
            verify_files(vectors, changed, entry["endorsement_files"], entry["chain_files"])
            assert SnpReport.parse(changed).signed_sha256 == SnpReport.parse(raw).signed_sha256
            continue
        with pytest.raises(CvmError) as caught:
            verify_files(vectors, changed, entry["endorsement_files"], entry["chain_files"])
        assert not isinstance(caught.value, EndorsementMissing), case["why"]
        seen += 1
    assert seen >= 20


def test_every_mutation_of_a_certificate_is_refused(vectors: Path) -> None:
    """Each in its place in an otherwise genuine chain of a real report."""
    reports = [entry for entry in listed(vectors, "report") if entry["endorsement_files"]]
    for case in _mutations(vectors, "certificate_cases"):
        entry = next(item for item in reports if case["base"] in item["endorsement_files"] + item["chain_files"])
        (raw,) = read(vectors, [entry["file"]])
        names = [*entry["endorsement_files"], *entry["chain_files"]]
        with pytest.raises(CvmError) as caught:
            chain = [
                _patched(data, case) if name == case["base"] else data
                for name, data in zip(names, read(vectors, names), strict=True)
            ]
            verify_snp(
                SnpReport.parse(raw), EndorsementSet.from_der(chain), anchors=TrustAnchors.amd(), now=CHECKED_ON,
                expected_report_data=None,
            )  # fmt: skip
        assert not isinstance(caught.value, EndorsementMissing), case


def test_extended_reports_of_clouds_verify_with_what_they_carry(vectors: Path) -> None:
    for entry in listed(vectors, "extended_report"):
        (data,) = read(vectors, [entry["file"]])
        evidence = parse_snp_evidence(data)
        chain = "asvk" if entry["facts"]["signing_key"] == "VLEK" else "ask"
        anchors = read(vectors, [f"anchors/milan_{chain}.der", "anchors/milan_ark.der"])
        pool = EndorsementSet.from_der([*evidence.certificates, *anchors], with_evidence=True)
        claims = verify_snp(
            evidence.report, pool, anchors=TrustAnchors.amd(), now=CHECKED_ON, expected_report_data=None
        )
        assert claims.snp.signing_key.name == entry["facts"]["signing_key"]
        assert (claims.snp.csp_id is not None) == (chain == "asvk")


def test_azure_blobs_and_quotes_verify_and_their_alterations_do_not(vectors: Path) -> None:
    for entry in listed(vectors, "azure_vtpm_evidence"):
        (data,) = read(vectors, [entry["file"]])
        evidence = parse_snp_evidence(data)
        assert evidence.hcl is not None
        assert evidence.vtpm is not None
        anchors = read(vectors, ["anchors/milan_ask.der", "anchors/milan_ark.der"])
        pool = EndorsementSet.from_der([*evidence.certificates, *anchors], with_evidence=True)
        verify_snp(
            evidence.report, pool, anchors=TrustAnchors.amd(), now=CHECKED_ON,
            expected_report_data=evidence.hcl.expected_report_data,
        )  # fmt: skip
        verify_vtpm(evidence.vtpm, expected_challenge=b"challenge")
        with pytest.raises(VerificationFailed, match="extraData"):
            verify_vtpm(evidence.vtpm, expected_challenge=b"another")
    for entry in listed(vectors, "hcl"):
        (data,) = read(vectors, [entry["file"]])
        blob = parse_snp_evidence(data).hcl
        assert blob is not None
        assert blob.expected_report_data == blob.report.report_data
        altered = parse_snp_evidence(data.replace(b'"keys"', b'"kexs"', 1)).hcl
        assert altered is not None
        assert altered.expected_report_data != altered.report.report_data

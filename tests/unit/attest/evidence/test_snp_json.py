"""The KBS spelling of a report: every form is put back into the exact bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.cert_table import ASK, VCEK, CertEntry
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_json import decode_snp_json, encode_snp_json
from attest.evidence.snp_report import SnpReport
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import FakeAmdPki

REPORT = SnpReport.parse(FakeAmdPki(report={"version": 5, "launch_mit_vector": 2**63, "current_mit_vector": 7}).raw)


def spelled(report: SnpReport = REPORT) -> dict[str, Any]:
    """The current spelling without the raw bytes, through JSON."""
    value: dict[str, Any] = json.loads(json.dumps(encode_snp_json(report)))
    del value["report"]
    return value


def older(report: SnpReport) -> dict[str, Any]:
    """The older spelling, with reserved arrays and flat versions."""
    raw, value = report.raw, spelled(report)
    fields = value["attestation_report"]
    fields["_author_key_en"] = fields.pop("key_info")
    fields["_reserved_0"] = 0
    for name in ("cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"):
        del fields[name]
    fields["_reserved_1"], fields["_reserved_4"] = list(raw[0x188:0x1A0]), list(raw[0x1F8:0x2A0])
    for name in ("current", "committed"):
        fields |= {f"{name}_{part}": number for part, number in fields.pop(name).items()}
    for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"):
        fields[name] = {part: number for part, number in fields[name].items() if part != "fmc"} | {"_reserved": [0] * 4}
    fields["signature"]["_reserved"] = [0] * 368
    value["attestation_report"] = fields
    return value


def between(report: SnpReport) -> dict[str, Any]:
    """The spelling between the two: CPUID by name, and the reserved bytes after it."""
    value = older(report)
    fields = value["attestation_report"]
    fields["key_info"] = fields.pop("_author_key_en")
    fields["cpuid_fam_id"], fields["cpuid_mod_id"], fields["cpuid_step"] = report.raw[0x188:0x18B]
    fields["_reserved_1"] = list(report.raw[0x18B:0x1A0])
    return value


@pytest.mark.parametrize("product", SnpProduct)
@pytest.mark.parametrize("version", [3, 4, 5])
def test_the_current_spelling_is_put_back_byte_for_byte(product: SnpProduct, version: int) -> None:
    report = SnpReport.parse(FakeAmdPki(product=product, report={"version": version}).raw)
    assert decode_snp_json(spelled(report)).report.raw == report.raw


def test_the_older_spelling_is_put_back_byte_for_byte() -> None:
    assert decode_snp_json(older(REPORT)).report.raw == REPORT.raw


def test_the_spelling_between_is_put_back_byte_for_byte() -> None:
    assert decode_snp_json(between(REPORT)).report.raw == REPORT.raw


def test_every_real_report_survives_every_spelling(vectors: Path) -> None:
    for path in sorted((vectors / "snp" / "reports").glob("*.bin")):
        report = SnpReport.parse(path.read_bytes())
        assert decode_snp_json(spelled(report)).report.raw == report.raw, path.name
        if report.cpuid_fam_id != 0x1A:
            assert decode_snp_json(older(report)).report.raw == report.raw, path.name
            assert decode_snp_json(between(report)).report.raw == report.raw, path.name


def test_raw_bytes_beside_the_spelling_must_agree_and_suffice_alone() -> None:
    both = encode_snp_json(REPORT)
    assert decode_snp_json(both).report.raw == REPORT.raw
    assert decode_snp_json({"report": both["report"]}).report.raw == REPORT.raw
    both["report"] = base64.b64encode(b"\x05" + REPORT.raw[1:-1] + b"\x01").decode()
    with pytest.raises(EvidenceMalformed, match="different reports"):
        decode_snp_json(both)


def test_certificates_are_taken_by_kind_and_unknown_kinds_left() -> None:
    value = encode_snp_json(REPORT, [CertEntry(VCEK, b"leaf"), CertEntry(ASK, b"ask")])
    chain = value["cert_chain"]
    assert isinstance(chain, list)
    chain.append({"cert_type": {"OTHER": "x"}, "data": [1]})
    assert decode_snp_json(value).certificates == (CertEntry(VCEK, b"leaf"), CertEntry(ASK, b"ask"))
    value["cert_chain"] = None
    assert decode_snp_json(value).certificates == ()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "3"), (("version",), True), (("version",), -1), (("version",), 2**32), (("policy",), 2**64),
        (("vmpl",), None), (("report_data",), [0] * 63), (("report_data",), [256] * 64), (("report_data",), "00" * 64),
        (("measurement",), [True] * 48), (("reported_tcb",), 5), (("reported_tcb", "snp"), 256),
        (("reported_tcb", "fmc"), "1"), (("reported_tcb", "_reserved"), [1, 0, 0, 0]), (("current",), [1]),
        (("current", "build"), None), (("key_info",), 1.0), (("signature",), None), (("signature", "r"), [0] * 48),
        (("cpuid_fam_id",), 300), (("signature", "_reserved"), [1] * 368), (("_reserved_1",), [0] * 3),
        (("_reserved_1",), []), (("_reserved_1",), [1] + [0] * 20),
    ],
)  # fmt: skip
def test_a_member_of_the_wrong_shape_is_malformed(path: tuple[str, ...], value: object) -> None:
    evidence = spelled()
    target = evidence["attestation_report"]
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    with pytest.raises(EvidenceMalformed):
        decode_snp_json(evidence)


@pytest.mark.parametrize("name", sorted(set(spelled()["attestation_report"]) - {
    "cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector",
}))  # fmt: skip
def test_a_missing_member_is_malformed(name: str) -> None:
    evidence = spelled()
    del evidence["attestation_report"][name]
    with pytest.raises(EvidenceMalformed):
        decode_snp_json(evidence)


@pytest.mark.parametrize(
    "value",
    [None, [], {}, {"attestation_report": []}, {"report": 5}, {"report": "!"}, {"report": "AAAA" * 1000},
     {**spelled(), "cert_chain": [[]]}, {**spelled(), "cert_chain": "x"}, {**spelled(), "cert_chain": [{}] * 17},
     {**spelled(), "cert_chain": [{"cert_type": "VCEK", "data": "00"}]}],
)  # fmt: skip
def test_evidence_of_the_wrong_shape_is_malformed(value: object) -> None:
    with pytest.raises(EvidenceMalformed):
        decode_snp_json(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(spelled()["attestation_report"])), JSON)
def test_any_value_in_any_member_parses_or_is_malformed(name: str, value: object) -> None:
    evidence = spelled()
    evidence["attestation_report"][name] = value
    try:
        decode_snp_json(evidence)
    except EvidenceMalformed:
        pass

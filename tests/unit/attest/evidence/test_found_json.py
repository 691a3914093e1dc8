"""Evidence written down as text, and in JSON of makes nobody told us about."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.cert_table import VCEK, CertEntry, build_cert_table
from attest.evidence.collateral_file import read_collateral_file
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.found_json import find_evidence
from attest.evidence.recognise import parse_evidence, parse_snp_evidence, recognise
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from policy.spelled import spelled_bytes
from tests.fakes.amd_pki import FakeAmdPki
from tests.unit.attest.evidence.test_containers import hcl, pem
from tests.unit.attest.evidence.test_snp_proto import inside, message

WORLD = FakeAmdPki()
RAW, LEAF = WORLD.raw, WORLD.leaf_der
CHAIN = b"".join(map(pem, WORLD.certificates))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


SPELLINGS = {
    "hex": RAW.hex(), "upper": RAW.hex().upper(), "0x": f"0x{RAW.hex()}\n", "dump": RAW.hex(" ", 1),
    "base64": b64(RAW), "wrapped": base64.encodebytes(RAW).decode(), "url": url(RAW),
    "crlf": base64.encodebytes(RAW).decode().replace("\n", "\r\n"),
}  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_a_report_may_be_pasted_as_text(text: str) -> None:
    evidence = parse_snp_evidence(text.encode())
    assert (evidence.kind, evidence.report.raw) == ("snp-report", RAW)
    assert recognise(text.encode()) == "snp-report"


def test_text_spells_any_kind_of_evidence_but_not_text_that_spells_it() -> None:
    blob = hcl(RAW, b"{}")
    assert parse_snp_evidence(b64(blob).encode()).kind == "azure-hcl"
    assert parse_snp_evidence(b64(WORLD.extended).encode()).certificates == WORLD.certificates
    with pytest.raises(EvidenceMalformed, match="no known kind"):
        parse_evidence(b64(b64(RAW).encode()).encode())


def test_evidence_may_be_compressed_once_and_only_to_its_largest_size() -> None:
    value = json.dumps({"report": list(hcl(RAW, b"{}")), "certs": {"vcekCert": pem(LEAF).decode()}}).encode()
    assert parse_snp_evidence(gzip.compress(RAW)).report.raw == RAW
    assert parse_snp_evidence(b64(gzip.compress(value)).encode()).certificates == (LEAF,)
    for wrong in (gzip.compress(gzip.compress(RAW)), gzip.compress(RAW)[:-1], gzip.compress(RAW) + b"x"):
        with pytest.raises(EvidenceMalformed, match="beginning 1f8b"):
            parse_evidence(wrong)
    with pytest.raises(EvidenceMalformed, match="beginning 1f8b"):
        parse_evidence(gzip.compress(RAW + bytes(8 << 20)))


@pytest.mark.parametrize("text", ["", "A", "AAAAA", "AA*A", "AA=A", "ab cde ", "é", "-+AA", "AAAA\0"])
def test_what_spells_no_bytes_is_none(text: str) -> None:
    assert spelled_bytes(text.encode()) is None


@given(st.binary(min_size=1, max_size=80))
def test_all_spellings_of_bytes_are_read_back(data: bytes) -> None:
    assert spelled_bytes(data.hex().encode()) == data
    assert spelled_bytes(f"0X{data.hex()}".encode()) == data
    if not all(digit in "0123456789abcdefABCDEF" for digit in url(data)):
        assert spelled_bytes(b64(data).encode()) == spelled_bytes(url(data).encode()) == data


MAKES: dict[str, Any] = {
    "leased": {"nonce": "0x00", "snp_report": b64(RAW), "vlek_cert": b64(LEAF), "timestamp": "2026-03-23"},
    "sidecar": {"evidence": b64(RAW), "endorsements": b64(CHAIN), "uvm_endorsements": b64(b"cose" * 99)},
    "quote": {"quote": b64(RAW), "endorsements": b64(CHAIN), "format": "AMD_SEV_SNP_v1"},
    "thim-inside": {"raw": RAW.hex(), "endorsements": b64(json.dumps({"vcekCert": pem(LEAF).decode()}).encode())},
    "tagged": {"format": "https://example.org/sev-snp/v1", "body": b64(RAW), "vcek": b64(LEAF)},
    "zipped": {"format": "https://example.org/sev-snp/v2", "body": b64(gzip.compress(RAW)), "vcek": url(LEAF)},
    "enveloped": {"platform": "snp", "evidence": {"attestation_report": b64(RAW), "cert_chain": {"vcek": b64(LEAF)}}},
    "service": {"tee": "snp", "evidence": {"Snp": {"report": url(RAW), "certs_buf": list(LEAF)}}, "key": {"x": "AA"}},
    "list": {"time": "", "report": {"evidence": [{"kind": "tpm", "blob": b64(b"x" * 400)}, {"kind": "snp", "blob": b64(WORLD.extended)}]}},
    "configfs": {"provider": "sev_guest", "outblob": b64(RAW),
                 "auxblob": b64(build_cert_table([CertEntry(VCEK, LEAF)]))},
    "string": {"claims": 1, "tee": json.dumps({"snp_report": b64(RAW), "cert": pem(LEAF).decode()})},
    "proof": {"report": url(json.dumps({"SnpReport": url(RAW), "VcekCertChain": url(CHAIN)}).encode())},
    "twice": {"a": b64(RAW), "b": RAW.hex(), "c": pem(LEAF).decode()},
}  # fmt: skip


@pytest.mark.parametrize("value", MAKES.values(), ids=MAKES)
def test_the_one_report_in_json_of_any_make_is_found_with_its_certificates(value: Any) -> None:
    data = json.dumps(value).encode()
    assert recognise(data) == "json"
    evidence = parse_snp_evidence(data)
    assert evidence.report.raw == RAW
    assert evidence.certificates[0] == LEAF
    assert read_collateral_file(data).certificates[0].der == LEAF


def test_json_around_a_blob_or_kbs_evidence_keeps_what_they_say() -> None:
    blob = hcl(RAW, b"{}")
    evidence = parse_snp_evidence(
        json.dumps({"report": list(blob), "certs": {"vcekCert": pem(LEAF).decode()}}).encode()
    )
    assert evidence.hcl is not None
    assert (evidence.kind, evidence.certificates) == ("azure-hcl", (LEAF,))
    spelled = json.dumps(encode_snp_json(SnpReport.parse(RAW), [CertEntry(VCEK, LEAF)])).encode()
    asked = {"verification_requests": [{"tee": "snp", "evidence": url(spelled)}]}
    evidence = parse_snp_evidence(json.dumps(asked).encode())
    assert (evidence.kind, evidence.report.raw, evidence.certificates) == ("kbs-snp", RAW, (LEAF,))


def test_a_blob_beside_its_own_report_is_one_and_the_same() -> None:
    for value in (
        {"hcl": b64(hcl(RAW, b"{}")), "report": b64(RAW)},
        {"a": b64(RAW), "b": b64(hcl(RAW, b"{}")), "c": 1},
    ):
        evidence = parse_snp_evidence(json.dumps(value).encode())
        assert (evidence.kind, evidence.report.raw) == ("azure-hcl", RAW)


def test_bytes_of_no_known_kind_in_a_string_are_gone_through() -> None:
    chain = inside(1, LEAF)
    for packed in (
        b"\xa1\x63rep\x59\x04\xa0" + RAW + b"\x04" + LEAF,
        inside(9, b"x") + inside(12, message(RAW, chain)),
    ):
        evidence = parse_snp_evidence(json.dumps({"attestation": b64(packed), "n": 1}).encode())
        assert (evidence.report.raw, evidence.certificates) == (RAW, (LEAF,))


def test_two_different_reports_are_refused() -> None:
    other = RAW[:0x50] + b"\x01" + RAW[0x51:]
    with pytest.raises(EvidenceMalformed, match="more than one SNP report"):
        parse_evidence(json.dumps({"snp_report": b64(RAW), "evidence": {"body": b64(other)}}).encode())


def test_a_report_with_a_fault_is_found_and_its_fault_named() -> None:
    broken = RAW[:0x4C] + b"\x01" + RAW[0x4D:]
    with pytest.raises(EvidenceMalformed, match="reserved at 0x4C"):
        parse_evidence(json.dumps({"snp_report": b64(broken)}).encode())


@pytest.mark.parametrize(
    "value",
    [{"a": b64(RAW[:-1])}, {"a": b64(bytes(1184))}, {"a": [256] * 1184}, {"a": [True] * 1184}],
)
def test_what_is_no_report_is_not_taken_for_one(value: Any) -> None:
    with pytest.raises(EvidenceMalformed, match="no SNP report"):
        parse_evidence(json.dumps(value).encode())


def test_lists_come_out_beside_certificates_and_other_makers_are_passed_over() -> None:
    crl = WORLD.crl()
    beside = {"r": b64(RAW), "crl": b64(crl), "key": b64(b"\x30\x82\x01\x22" + bytes(290)), "junk": "-" * 300}
    evidence = parse_snp_evidence(json.dumps(beside).encode())
    assert (evidence.certificates, evidence.crls) == ((), (crl,))
    with pytest.raises(EvidenceMalformed, match="PEM"):
        parse_evidence(json.dumps({"r": b64(RAW), "c": pem(LEAF)[:-9].decode()}).encode())


def test_compressed_strings_cannot_make_much_of_little() -> None:
    bomb = b64(gzip.compress(bytes(8 << 20)))
    value = {f"m{number}": bomb for number in range(50)} | {"body": b64(gzip.compress(RAW))}
    with pytest.raises(EvidenceMalformed, match="no SNP report"):
        find_evidence({"a": b64(gzip.compress(RAW)[:-9] + bytes(300))})
    assert find_evidence({"body": value["body"], **value})[0] == RAW


def test_json_is_unpacked_from_strings_only_so_often() -> None:
    value: Any = {"snp_report": b64(RAW)}
    for _ in range(4):
        value = {"inner": json.dumps(value)}
    assert find_evidence(value)[0] == RAW
    with pytest.raises(EvidenceMalformed, match="no SNP report"):
        find_evidence({"inner": json.dumps(value)})


@pytest.mark.parametrize("spell", [b64, bytes.hex, url])
def test_collateral_may_be_pasted_as_text(spell: Any) -> None:
    thim = json.dumps({"vcekCert": pem(LEAF).decode(), "certificateChain": ""}).encode()
    for data in (thim, LEAF, build_cert_table([CertEntry(VCEK, LEAF)])):
        assert [found.der for found in read_collateral_file(spell(data).encode()).certificates] == [LEAF]

"""Certificate tables, PEM, DER, HCL blobs and the recogniser."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.cert_table import ARK, ASK, CRL, NAMES, VCEK, CertEntry, build_cert_table, parse_cert_table
from attest.evidence.collateral_file import read_collateral_file
from attest.evidence.der import exact_ia5, exact_integer, split_sequences
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.hcl import parse_hcl
from attest.evidence.pem import parse_pem
from attest.evidence.recognise import (
    QuoteEvidence,
    SnpEvidence,
    TdReportEvidence,
    parse_evidence,
    parse_snp_evidence,
    recognise,
)
from attest.evidence.snp_json import encode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.evidence.tdx_json import encode_tdx_json
from tests.fakes.amd_pki import FakeAmdPki, integer
from tests.unit.attest.evidence.quotes import make_quote, make_tdreport

WORLD = FakeAmdPki()
TDREPORT = make_tdreport()
QUOTE = make_quote()


def entry(guid: UUID, offset: int, length: int) -> bytes:
    return guid.bytes + struct.pack("<II", offset, length)


def test_a_table_reads_as_it_was_built() -> None:
    entries = (CertEntry(VCEK, b"leaf"), CertEntry(ASK, b"intermediate"), CertEntry(UUID(int=7), b"other"))
    table = build_cert_table(entries)
    assert len(table) == 4096
    assert parse_cert_table(table) == entries
    assert [item.name for item in entries] == ["VCEK", "ASK", None]


@pytest.mark.parametrize("data", [b"", bytes(24), bytes(4096)])
def test_an_empty_table_holds_nothing(data: bytes) -> None:
    assert parse_cert_table(data) == ()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (entry(VCEK, 48, 4) + bytes(24), "spans 0x30..0x34"),
        (entry(VCEK, 0xFFFFFFF0, 0x20) + bytes(24) + b"cert", "spans 0xfffffff0..0x100000010"),
        (entry(VCEK, 47, 4) + bytes(24) + b"cert", "want a part of 0x30"),
        (entry(VCEK, 0, 4) + bytes(24) + b"cert", "want a part of 0x30"),
        (entry(VCEK, 48, 0) + bytes(24) + b"cert", "spans 0x30..0x30"),
        (entry(VCEK, 48, 4), "entry GUID"),
        (entry(VCEK, 48, 4)[:20], "entry length"),
        (entry(VCEK, 72, 4) + entry(VCEK, 72, 4) + bytes(24) + b"cert", "occurs twice"),
        (entry(VCEK, 48, 4) + entry(UUID(int=0), 1, 0) + b"cert", "end entry"),
        (b"".join(entry(UUID(int=n + 1), 9000, 1) for n in range(65)) + bytes(24), "more than 64"),
    ],
)
def test_a_hostile_table_is_refused(table: bytes, message: str) -> None:
    with pytest.raises(EvidenceMalformed, match=message):
        parse_cert_table(table)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_table_or_malformed(data: bytes) -> None:
    try:
        entries = parse_cert_table(data)
    except EvidenceMalformed:
        return
    assert all(item.data in data for item in entries)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(NAMES)), st.binary(min_size=1, max_size=60)), unique_by=lambda item: item[0]
    )
)
def test_any_table_survives_building_and_reading(items: list[tuple[UUID, bytes]]) -> None:
    entries = tuple(CertEntry(*item) for item in items)
    assert parse_cert_table(build_cert_table(entries)) == entries


@pytest.mark.parametrize("value", [0, 1, 127, 128, 219, 255])
def test_integers_have_one_encoding(value: int) -> None:
    assert exact_integer(integer(value), "x", maximum=255) == value


@pytest.mark.parametrize(
    "data",
    ["", "02", "0201", "020200ff00", "0202007f", "0201ff", "02020100", "0301ff", "028101ff", "02820001ff", "0200"],
)
def test_inexact_integers_are_refused(data: str) -> None:
    with pytest.raises(EvidenceMalformed):
        exact_integer(bytes.fromhex(data), "x", maximum=255)


@pytest.mark.parametrize(
    "data", [b"\x16\x00", b"\x16\x01\x00", b"\x16\x01\x80", b"\x0c\x01a", b"\x16\x02a", b"\x16\x01ab"]
)
def test_inexact_strings_are_refused(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        exact_ia5(data, "x")


def test_certificates_laid_end_to_end_are_split() -> None:
    assert split_sequences(b"".join(WORLD.certificates), "x") == WORLD.certificates
    with pytest.raises(EvidenceMalformed):
        split_sequences(WORLD.leaf_der[:-1], "x")


def pem(der: bytes, label: str = "CERTIFICATE", end: str = "\n") -> bytes:
    text = base64.encodebytes(der).decode().replace("\n", end)
    return f"-----BEGIN {label}-----{end}{text}-----END {label}-----{end}".encode()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pem_bundles_are_read_with_either_line_ending(end: str) -> None:
    bundle = b"comment\n" + b"".join(pem(der, end=end) for der in WORLD.certificates)
    assert tuple(block.data for block in parse_pem(bundle)) == WORLD.certificates


@pytest.mark.parametrize(
    "data",
    [b"-----BEGIN CERTIFICATE-----\nAAAA", pem(b"x").replace(b"eA==", b"eA="), b"-----BEGIN A-----\n?-----END A-----"],
)
def test_damaged_pem_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_pem(data)


@pytest.mark.parametrize(
    "data",
    [
        pem(WORLD.leaf_der) + pem(WORLD.ask_der) + pem(WORLD.ark_der),
        b"".join(WORLD.certificates),
        WORLD.extended,
        build_cert_table([CertEntry(VCEK, WORLD.leaf_der), CertEntry(ASK, WORLD.ask_der), CertEntry(ARK, WORLD.ark_der)]),
        b'{"vcekCert": "' + pem(WORLD.leaf_der, end="\\n") + b'", "certificateChain": "'
        + pem(WORLD.ask_der, end="\\n") + pem(WORLD.ark_der, end="\\n") + b'"}',
    ],
    ids=["pem", "der", "extended-report", "table", "thim"],
)  # fmt: skip
def test_collateral_is_found_whatever_it_is_wrapped_in(data: bytes) -> None:
    found = read_collateral_file(data)
    assert tuple(certificate.der for certificate in found.certificates) == WORLD.certificates
    assert not found.damaged


def test_a_host_may_keep_certificates_as_pem_in_its_table() -> None:
    chain = pem(WORLD.ask_der) + pem(WORLD.ark_der)
    entries = [
        CertEntry(VCEK, pem(WORLD.leaf_der)),
        CertEntry(ASK, chain),
        CertEntry(CRL, pem(WORLD.crl(), "X509 CRL")),
    ]
    data = WORLD.raw + build_cert_table(entries)
    evidence = parse_snp_evidence(data)
    assert evidence.certificates == WORLD.certificates
    assert len(evidence.crls) == 1
    sent = json.dumps(encode_snp_json(evidence.report, entries)).encode()
    assert parse_snp_evidence(sent).certificates == WORLD.certificates
    assert tuple(found.der for found in read_collateral_file(data[1184:]).certificates) == WORLD.certificates
    with pytest.raises(EvidenceMalformed, match="PEM"):
        parse_snp_evidence(WORLD.raw + build_cert_table([CertEntry(VCEK, pem(WORLD.leaf_der)[:-9])]))


@pytest.mark.parametrize("padding", [0, 1, 2500])
def test_a_host_may_write_its_table_in_the_mixed_order_and_count_padding(padding: int) -> None:
    leaf = WORLD.leaf_der + bytes(padding)
    table = VCEK.bytes_le + struct.pack("<II", 48, len(leaf)) + bytes(24) + leaf
    assert parse_snp_evidence(WORLD.raw + table).certificates == (WORLD.leaf_der,)
    assert [found.der for found in read_collateral_file(table).certificates] == [WORLD.leaf_der]


def test_padding_of_a_certificate_is_zeros_only() -> None:
    table = build_cert_table([CertEntry(VCEK, WORLD.leaf_der + bytes(9) + b"x")])
    assert parse_snp_evidence(WORLD.raw + table).certificates == (WORLD.leaf_der + bytes(9) + b"x",)


def test_one_certificate_in_both_orders_is_there_twice() -> None:
    doubled = VCEK.bytes_le + struct.pack("<II", 72, 4) + entry(VCEK, 72, 4) + bytes(24) + b"cert"
    with pytest.raises(EvidenceMalformed, match="occurs twice"):
        parse_cert_table(doubled)


def test_lists_are_found_and_other_files_passed_over() -> None:
    assert len(read_collateral_file(WORLD.crl()).crls) == 1
    assert len(read_collateral_file(pem(WORLD.crl(), "X509 CRL")).crls) == 1
    for junk in (b"", b"text", b"{}", bytes(100), WORLD.raw):
        found = read_collateral_file(junk)
        assert not (found.certificates or found.crls or found.damaged)


def test_damaged_certificates_are_kept_as_errors() -> None:
    for data in (WORLD.leaf_der[:-5], pem(WORLD.leaf_der[:-5]), pem(WORLD.leaf_der)[:-9]):
        assert read_collateral_file(data).damaged


def hcl(
    report: bytes, variable: bytes, *, kind: int = 2, hash_type: int = 1, extra: int = 20, version: int = 1
) -> bytes:
    header = b"HCLA" + struct.pack("<7I", 2, 0, 2, 0, 0, 0, 0)
    request = struct.pack("<5I", len(variable) + extra, version, kind, hash_type, len(variable))
    capabilities = struct.pack("<I", 0x13) if version > 1 else b""
    return (header + report + request + capabilities + variable).ljust(2600, b"\0")


def test_an_hcl_blob_binds_its_variable_data_by_hash() -> None:
    blob = parse_hcl(hcl(WORLD.raw, b'{"keys":[]}'))
    assert blob.variable_data == b'{"keys":[]}'
    assert blob.expected_report_data == hashlib.sha256(b'{"keys":[]}').digest() + bytes(32)


@pytest.mark.parametrize("version", [2, 3])
def test_newer_request_data_have_capabilities_before_the_variable_data(version: int) -> None:
    blob = parse_hcl(hcl(WORLD.raw, b'{"keys":[]}', extra=24, version=version))
    assert blob.variable_data == b'{"keys":[]}'
    assert blob.expected_report_data == hashlib.sha256(b'{"keys":[]}').digest() + bytes(32)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (hcl(WORLD.raw, b"{}", version=2), EvidenceMalformed),
        (hcl(WORLD.raw, b"{}", extra=24), EvidenceMalformed),
        (hcl(WORLD.raw, b"{}", extra=24, version=4), EvidenceUnsupported),
        (hcl(WORLD.raw, b"{}", extra=24, version=0), EvidenceUnsupported),
        (hcl(WORLD.raw, b"{}", kind=4), EvidenceUnsupported),  # no TDREPORT stands there
        (hcl(WORLD.raw, b"{}", kind=3), EvidenceUnsupported),
        (hcl(TDREPORT + bytes(159) + b"x", b"{}", kind=4), EvidenceMalformed),
        (hcl(WORLD.raw, b"{}", hash_type=9), EvidenceUnsupported),
        (hcl(WORLD.raw, b"{}", extra=21), EvidenceMalformed),
        (hcl(WORLD.raw, b"{}")[:1200], EvidenceMalformed),
        (hcl(WORLD.raw, b"{}") + b"x", EvidenceMalformed),
        (b"HCLB" + bytes(3000), EvidenceMalformed),
    ],
)
def test_a_broken_hcl_blob_is_refused(data: bytes, error: type[EvidenceMalformed]) -> None:
    with pytest.raises(error):
        parse_hcl(data)


def test_an_hcl_blob_may_hold_a_tdreport() -> None:
    evidence = parse_evidence(hcl(TDREPORT + bytes(160), b"{}", kind=4))
    assert isinstance(evidence, TdReportEvidence)
    assert evidence.report.raw == TDREPORT
    assert evidence.hcl is not None
    assert evidence.hcl.variable_data == b"{}"


RESPONSE = struct.pack("<II24x", 0, 1184) + WORLD.raw


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (WORLD.raw, "snp-report"), (WORLD.extended, "snp-extended-report"), (WORLD.raw + bytes(4096), "snp-extended-report"),
        (RESPONSE, "snp-report"), (RESPONSE.ljust(4000, b"\0"), "snp-report"),
        (hcl(WORLD.raw, b"{}"), "azure-hcl"), (b'{"attestation_report": {}}', "kbs-snp"),
        (b' {"tee-evidence": {"primary_evidence": {"attestation_report": {}}}}', "kbs-snp"),
        (b'{"quote": "x", "cc_eventlog": null}', "kbs-tdx"), (b'{"tpm_quote": {}}', "azure-vtpm"),
        (b'{"tpm_quote": {}, "td_quote": "x"}', "azure-vtpm-tdx"), (TDREPORT, "tdreport"),
        (bytes(32) + b"Spec ID Event03\0" + bytes(30), "event-log"),
        (struct.pack("<HHI", 4, 2, 0x81) + bytes(700), "tdx-quote"), (struct.pack("<HHI", 3, 2, 0) + bytes(700), "sgx-quote"),
    ],
)  # fmt: skip
def test_evidence_is_recognised_by_content(data: bytes, kind: str) -> None:
    assert recognise(data) == kind


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x82\x05\x43aaaaaaaaa", b"hello world", b'{"a": 1}', b"[1]", b"{", b"AAAAAAAAA"]
)
def test_what_is_no_evidence_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_evidence(data)


def test_an_empty_file_is_said_to_be_empty() -> None:
    with pytest.raises(EvidenceMalformed, match=r"^evidence: empty"):
        recognise(b"")


@pytest.mark.parametrize("version", [6, 0x100, 0xFFFFFFFF])
def test_a_report_of_a_version_nobody_knows_is_refused_by_its_version(version: int) -> None:
    with pytest.raises(EvidenceUnsupported, match=f"version at 0x0 is {version}"):
        parse_evidence(version.to_bytes(4, "little") + WORLD.raw[4:])


def test_reports_come_out_of_every_container() -> None:
    for data in (WORLD.raw, WORLD.extended, RESPONSE, RESPONSE.ljust(4000, b"\0"), hcl(WORLD.raw, b"{}")):
        assert parse_snp_evidence(data).report.raw == WORLD.raw
    assert parse_snp_evidence(WORLD.extended).certificates == WORLD.certificates
    with pytest.raises(EvidenceMalformed, match="must be zero"):
        parse_evidence(RESPONSE + b"\x01")
    assert isinstance(parse_evidence(WORLD.raw), SnpEvidence)


def test_evidence_in_a_string_of_an_older_request_is_read() -> None:
    spelled = json.dumps(encode_snp_json(SnpReport.parse(WORLD.raw)))
    evidence = parse_snp_evidence(json.dumps({"tee-pubkey": {}, "tee-evidence": spelled}).encode())
    assert (evidence.kind, evidence.report.raw) == ("kbs-snp", WORLD.raw)


@pytest.mark.parametrize("text", ["", "{", "1", '"{}"', "[]", "\ud800"])
def test_a_string_that_holds_no_evidence_is_malformed(text: str) -> None:
    with pytest.raises(EvidenceMalformed):
        parse_evidence(json.dumps({"tee-evidence": text}).encode())


def test_quotes_come_out_of_every_container() -> None:
    wrapped = json.dumps({"tee-evidence": {"primary_evidence": encode_tdx_json(QUOTE, b"log")}}).encode()
    for data, log in ((QUOTE, None), (QUOTE + bytes(70), None), (wrapped, b"log")):
        evidence = parse_evidence(data)
        assert isinstance(evidence, QuoteEvidence)
        assert (evidence.quote.raw, evidence.event_log) == (QUOTE, log)


@pytest.mark.parametrize("data", [QUOTE, TDREPORT, json.dumps(encode_tdx_json(QUOTE, None)).encode()])
def test_who_wants_an_snp_report_refuses_other_evidence_by_its_kind(data: bytes) -> None:
    with pytest.raises(EvidenceUnsupported, match=recognise(data)):
        parse_snp_evidence(data)


def test_an_event_log_alone_is_no_evidence() -> None:
    with pytest.raises(EvidenceUnsupported, match="proves nothing without it"):
        parse_evidence(bytes(32) + b"Spec ID Event03\0" + bytes(30))


@given(st.binary(max_size=64) | st.builds(lambda tail: WORLD.raw + tail, st.binary(max_size=128)))
def test_any_file_is_evidence_or_malformed(data: bytes) -> None:
    try:
        parse_evidence(data)
    except EvidenceMalformed:
        pass

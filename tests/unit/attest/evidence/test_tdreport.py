"""TDREPORT and the ``tdx`` evidence of the KBS protocol."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.quote import MAX_QUOTE, parse_quote
from attest.evidence.td_report import TdReportBody
from attest.evidence.tdreport_struct import TDREPORT_SIZE, parse_tdreport
from attest.evidence.tdx_json import MAX_EVENT_LOG, decode_tdx_json, encode_tdx_json
from tests.unit.attest.evidence.quotes import make_quote, make_tdreport

FIELDS = {
    "tcb_info_valid": 8, "tee_tcb_svn": 16, "mrseam": 48, "mrsignerseam": 48, "seamattributes": 8, "tee_tcb_svn2": 16,
    "td_attributes": 8, "xfam": 8, "mrtd": 48, "mrconfigid": 48, "mrowner": 48, "mrownerconfig": 48,
    "mrservicetd": 48,
}  # fmt: skip
RESERVED = [(3, 16), (192, 224), (400, 495), (495, 512), (960, 1024)]
QUOTE = make_quote(5, "1.5")


def test_every_field_of_a_tdreport_is_read_from_its_place() -> None:
    values = {name: bytes((seed + at) % 256 for at in range(size)) for seed, (name, size) in enumerate(FIELDS.items())}
    rtmrs = bytes(range(192))
    report = parse_tdreport(make_tdreport(report_data=b"D" * 64, rtmrs=rtmrs, **values))
    for name, value in values.items():
        got = getattr(report, name)
        assert got == (value if isinstance(got, bytes) else int.from_bytes(value, "little")), name
    assert report.rtmrs == tuple(rtmrs[at : at + 48] for at in range(0, 192, 48))
    assert (report.cpusvn, report.report_data, report.mac) == (bytes(range(16)), b"D" * 64, b"M" * 32)
    assert (report.version, report.newer) == (0, bytes(64))


def test_the_two_hashes_tell_damage_and_nothing_else() -> None:
    data = bytearray(make_tdreport())
    assert parse_tdreport(data).tee_tcb_info_hash_fits
    assert parse_tdreport(data).tee_info_hash_fits
    data[300] ^= 1
    data[600] ^= 1
    assert not parse_tdreport(data).tee_tcb_info_hash_fits
    assert not parse_tdreport(data).tee_info_hash_fits


@pytest.mark.parametrize("span", RESERVED, ids=lambda span: str(span[0]))
def test_a_reserved_byte_of_a_tdreport_that_is_not_zero_is_refused(span: tuple[int, int]) -> None:
    for version in (0, 1):
        for offset in range(*span):
            data = bytearray(make_tdreport(version=version))
            data[offset] = 1
            with pytest.raises(EvidenceMalformed, match="must be zero"):
                parse_tdreport(bytes(data))


def test_version_2_fills_what_was_reserved() -> None:
    assert parse_tdreport(make_tdreport(version=2, newer=b"N" * 64)).newer == b"N" * 64


@pytest.mark.parametrize(("offset", "value"), [(0, 0), (0, 0x80), (1, 1), (2, 3), (2, 255)])
def test_a_report_of_another_kind_is_unsupported(offset: int, value: int) -> None:
    data = bytearray(make_tdreport())
    data[offset] = value
    with pytest.raises(EvidenceUnsupported):
        parse_tdreport(bytes(data))


@pytest.mark.parametrize("size", [0, 1023, 1025, 2048])
def test_a_tdreport_of_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(EvidenceMalformed, match=f"got {size} bytes, want 1024"):
        parse_tdreport(make_tdreport().ljust(2048, b"\0")[:size])


def test_a_quote_of_another_td_differs_by_name() -> None:
    body = parse_quote(make_quote()).body
    assert isinstance(body, TdReportBody)
    assert parse_tdreport(make_tdreport()).differences(body) == ()
    other = parse_tdreport(make_tdreport(mrtd=b"\1", rtmrs=b"\1", report_data=b"\1" * 64))
    assert other.differences(body) == ("mrtd", "rtmrs", "report_data")


@given(st.binary(min_size=TDREPORT_SIZE, max_size=TDREPORT_SIZE))
def test_random_bytes_are_a_tdreport_or_malformed(data: bytes) -> None:
    for raw in (data, b"\x81\0\2" + bytes(13) + data[16:]):
        try:
            assert parse_tdreport(raw).raw == raw
        except EvidenceMalformed:
            pass


def test_real_tdreports_hold_their_hashes_and_equal_their_quotes(vectors: Path) -> None:
    entries = json.loads((vectors / "tdx" / "manifest.json").read_bytes())["entries"]
    listed = [entry for entry in entries if entry["kind"] == "tdreport"]
    assert len(listed) >= 5
    for entry in listed:
        report = parse_tdreport((vectors / "tdx" / entry["file"]).read_bytes())
        facts = entry["facts"]
        assert report.tee_tcb_info_hash_fits == facts["tee_tcb_info_hash_ok"]
        assert report.tee_info_hash_fits == facts["tee_info_hash_ok"]
        assert report.mrtd.hex() == facts["mrtd"]
        assert [value.hex() for value in report.rtmrs] == [facts[f"rtmr{index}"] for index in range(4)]
        if "quote" in entry:
            body = parse_quote((vectors / "tdx" / entry["quote"]).read_bytes()).body
            assert isinstance(body, TdReportBody)
            differences = report.differences(body)
            expected = {name for name, same in entry["same_fields_in_quote"].items() if not same}
            assert set(differences) == expected, entry["file"]


def test_tdx_evidence_carries_quote_and_log() -> None:
    for log in (None, b"log"):
        decoded = decode_tdx_json(json.loads(json.dumps(encode_tdx_json(QUOTE, log))))
        assert (decoded.quote.raw, decoded.event_log, decoded.agent_log) == (QUOTE, log, None)


def test_what_other_agents_send_is_read_or_passed_over() -> None:
    evidence = encode_tdx_json(QUOTE, None) | {"cc_eventlog": "", "aa_eventlog": "INIT sha384/00", "gpu_evidence": {}}
    assert decode_tdx_json(evidence)[1:] == (None, "INIT sha384/00")
    assert decode_tdx_json({"quote": base64.b64encode(QUOTE + bytes(70)).decode()}).quote.padding == 70


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"quote": None}, "quote: want base64"),
        ({"quote": 5}, "quote: want base64"),
        ({"quote": "AAA"}, "quote: not base64"),
        ({"quote": "QU_-"}, "quote: not base64"),
        ({"quote": "AAB="}, "stray bits"),
        ({"quote": "é" * 4}, "quote: not base64"),
        ({"quote": "A" * (MAX_QUOTE * 2)}, f"at most {MAX_QUOTE} bytes"),
        ({"quote": ""}, "header at 0x0"),
        ({"cc_eventlog": 5}, "cc_eventlog: want base64"),
        ({"cc_eventlog": " AAAA"}, "cc_eventlog: not base64"),
        ({"cc_eventlog": "A" * (MAX_EVENT_LOG * 2)}, f"at most {MAX_EVENT_LOG} bytes"),
        ({"aa_eventlog": []}, "aa_eventlog: want text"),
    ],
)
def test_tdx_evidence_of_the_wrong_shape_is_malformed(change: dict[str, Any], why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        decode_tdx_json(encode_tdx_json(QUOTE, None) | change)


def test_tdx_evidence_must_be_an_object() -> None:
    with pytest.raises(EvidenceMalformed, match="got list, want an object"):
        decode_tdx_json([])

"""go-sev-guest's message: every report comes out of it as it was, in the wire format and in both JSON spellings."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.recognise import parse_evidence, parse_snp_evidence, recognise
from attest.evidence.snp_proto import decode_snp_proto, report_of_members
from tests.fakes.amd_pki import FakeAmdPki

WORLD = FakeAmdPki()
INTEGERS = {
    1: ("version", 0, 4), 2: ("guest_svn", 4, 4), 3: ("policy", 8, 8), 6: ("vmpl", 0x30, 4), 7: ("signature_algo", 0x34, 4),
    8: ("current_tcb", 0x38, 8), 9: ("platform_info", 0x40, 8), 10: ("signer_info", 0x48, 4),
    18: ("reported_tcb", 0x180, 8), 20: ("committed_tcb", 0x1E0, 8), 21: ("current_build", 0x1E8, 1),
    22: ("current_minor", 0x1E9, 1), 23: ("current_major", 0x1EA, 1), 24: ("committed_build", 0x1EC, 1),
    25: ("committed_minor", 0x1ED, 1), 26: ("committed_major", 0x1EE, 1), 27: ("launch_tcb", 0x1F0, 8),
    30: ("launch_mit_vector", 0x1F8, 8), 31: ("current_mit_vector", 0x200, 8),
}  # fmt: skip
OCTETS = {
    4: ("family_id", 0x10, 16), 5: ("image_id", 0x20, 16), 11: ("report_data", 0x50, 64), 12: ("measurement", 0x90, 48),
    13: ("host_data", 0xC0, 32), 14: ("id_key_digest", 0xE0, 48), 15: ("author_key_digest", 0x110, 48),
    16: ("report_id", 0x140, 32), 17: ("report_id_ma", 0x160, 32), 19: ("chip_id", 0x1A0, 64), 28: ("signature", 0x2A0, 512),
}  # fmt: skip


def varint(value: int) -> bytes:
    more = value >> 7
    return bytes([value & 0x7F | (0x80 if more else 0)]) + (varint(more) if more else b"")


def inside(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def eax(raw: bytes) -> int:
    family, model, step = raw[0x188:0x18B]
    return (family - 0xF) << 20 | (model >> 4) << 16 | 0xF00 | (model & 0xF) << 4 | step if family else 0


def numbers(raw: bytes) -> dict[int, int]:
    found = {number: int.from_bytes(raw[at : at + size], "little") for number, (_, at, size) in INTEGERS.items()}
    return {number: value for number, value in (found | {29: eax(raw)}).items() if value}


def report_message(raw: bytes) -> bytes:
    parts = {number: varint(number << 3) + varint(value) for number, value in numbers(raw).items()}
    parts |= {number: inside(number, raw[at : at + size]) for number, (_, at, size) in OCTETS.items()}
    return b"".join(parts[number] for number in sorted(parts))


def message(raw: bytes, chain: bytes = b"") -> bytes:
    return inside(1, report_message(raw)) + (inside(2, chain) if chain else b"") + inside(3, b"\x08\x02")


def members(raw: bytes) -> dict[str, Any]:
    names = {number: entry[0] for number, entry in INTEGERS.items()} | {29: "cpuid1eax_fms"}
    found: dict[str, Any] = {names[number]: value for number, value in numbers(raw).items()}
    return found | {name: base64.b64encode(raw[at : at + size]).decode() for name, at, size in OCTETS.values()}


def camel(name: str) -> str:
    return re.sub("_([a-z0-9])", lambda letter: letter[1].upper(), name)


def test_every_real_report_comes_out_as_it_was(vectors: Path) -> None:
    files = sorted((vectors / "snp" / "reports").glob("*.bin"))
    assert files
    for raw in map(Path.read_bytes, files):
        assert parse_snp_evidence(message(raw)).report.raw == raw
        spelled = members(raw)
        assert parse_snp_evidence(json.dumps({"report": spelled, "certificate_chain": {}}).encode()).report.raw == raw
        strings = {
            camel(name): str(value) if name in ("policy", "current_tcb") else value for name, value in spelled.items()
        }
        assert parse_snp_evidence(json.dumps({"report": strings}).encode()).report.raw == raw


def test_certificates_come_along_and_what_is_unknown_is_passed_over() -> None:
    extra = inside(7, b"a") + inside(7, b"b") + varint(9 << 3 | 1) + bytes(8) + varint(9 << 3 | 5) + bytes(4)
    chain = inside(3, WORLD.ark_der) + inside(1, WORLD.leaf_der) + inside(2, WORLD.ask_der) + inside(6, b"") + extra
    evidence = parse_snp_evidence(message(WORLD.raw, chain))
    assert (evidence.kind, evidence.report.raw) == ("snp-proto", WORLD.raw)
    assert evidence.certificates == WORLD.certificates
    found = {"body": base64.b64encode(message(WORLD.raw, chain)).decode()}
    assert parse_snp_evidence(json.dumps(found).encode()).certificates == WORLD.certificates


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (inside(2, b""), "want a report"),
        (varint(1 << 3) + b"\x01", "want a report"),
        (message(WORLD.raw)[:-1], "field 3"),
        (message(WORLD.raw) + inside(1, b""), "field 1 stands twice"),
        (inside(1, report_message(WORLD.raw) + varint(8) + b"\x02"), "field 1 stands twice"),
        (inside(1, report_message(WORLD.raw) + varint(40 << 3 | 3)), "wire type 3"),
        (inside(1, varint(1 << 3) + b"\xff" * 9 + b"\x7f"), "more than 64 bits"),
        (inside(1, varint(1 << 3) + b"\xff" * 11), "more than 64 bits"),
        (inside(1, varint(1 << 3) + varint(1 << 32)), "version: want an integer of 32 bits"),
        (inside(1, varint(21 << 3) + varint(256)), "current_build: want an integer of 8 bits"),
        (inside(1, inside(12, bytes(47))), "measurement: want 48 bytes"),
        (inside(1, inside(3, bytes(8))), "policy: want an integer"),
        (inside(1, varint(12 << 3) + b"\x01"), "measurement: want 48 bytes"),
        (inside(1, varint(29 << 3) + varint(1 << 32)), "cpuid1eax_fms: want an integer of 32 bits"),
        (inside(1, varint(29 << 3) + varint(0x0FF00F00)), "is of no family"),
        (varint(2 << 3) + b"\x01" + inside(1, b""), "as messages"),
    ],
)
def test_a_broken_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        decode_snp_proto(data)


def test_members_of_another_size_are_refused_and_other_objects_left_alone() -> None:
    good = members(WORLD.raw)
    assert report_of_members(good) == WORLD.raw
    assert report_of_members(good | {"measurement": WORLD.raw[0x90:0xC0].hex()}) == WORLD.raw
    assert report_of_members(good | {"policy": {}}) is None
    assert report_of_members({"signature": "", "measurement": ""}) is None
    for wrong in ("AAAA", "?", base64.b64encode(bytes(49)).decode()):
        with pytest.raises(EvidenceMalformed, match="measurement"):
            report_of_members(good | {"measurement": wrong})


@given(st.data())
def test_any_bytes_are_a_message_or_malformed(data: st.DataObject) -> None:
    raw = bytearray(message(WORLD.raw, inside(1, b"leaf")))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode_snp_proto(bytes(raw))
        parse_evidence(bytes(raw))
    except EvidenceMalformed:
        return


def test_a_message_is_told_from_text_that_begins_with_a_line_end() -> None:
    assert recognise(message(WORLD.raw)) == "snp-proto"
    assert recognise(b"\n" + WORLD.raw.hex().encode()) == "snp-report"

"""Reports no parser may accept: one field of an otherwise good report, signed as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tests.fakes.amd_pki import FakeAmdPki, Inputs, ec_key, report_body, sign_report


@dataclass(frozen=True)
class MalformedCase:
    """``code`` is how our command refuses it."""

    name: str
    code: str
    clause: str
    report: bytes

    def inputs(self) -> Inputs:
        """With the good certificates."""
        good = FakeAmdPki(report={"version": 5}).inputs()
        return Inputs(self.report, good.certificates, good.crls, good.anchors, good.now, None)


def _signed(offset: int, data: bytes, version: int = 5) -> bytes:
    """A report with ``data`` at ``offset`` of the signed part."""
    fields: dict[str, int | bytes] = {"version": version}
    if version == 2:
        fields |= {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0}
    body = bytearray(report_body(FakeAmdPki(report=fields).fields))
    body[offset : offset + len(data)] = data
    return sign_report(bytes(body), ec_key("leaf"))


def _patched(offset: int, data: bytes) -> bytes:
    raw = bytearray(FakeAmdPki(report={"version": 5}).raw)
    raw[offset : offset + len(data)] = data
    return bytes(raw)


_TABLE = 'AMD 56860, table "ATTESTATION_REPORT Structure"'


@cache
def malformed_cases() -> tuple[MalformedCase, ...]:
    """All of them; made on first use, because keys are."""
    bad, unsupported = "evidence.malformed", "evidence.unsupported"
    good = FakeAmdPki(report={"version": 5}).raw
    cases = [
        ("report_one_byte_short", bad, f"{_TABLE}: 1184 bytes", good[:-1]),
        ("report_of_version_0", unsupported, f"{_TABLE}, VERSION: no such version", _signed(0, bytes(4))),
        ("report_of_version_1", unsupported, f"{_TABLE}, VERSION: without committed TCB", _signed(0, b"\1\0\0\0", 2)),
        ("report_of_version_6", unsupported, f"{_TABLE}, VERSION: laid out in nobody knows which way", _signed(0, b"\6\0\0\0")),
        ("another_signature_algorithm", unsupported, f"{_TABLE}, SIGNATURE_ALGO: 1 is P-384 with SHA-384", _signed(0x34, b"\2")),
        ("reserved_signing_key", bad, f"{_TABLE}, SIGNING_KEY: 2 to 6 are reserved", _signed(0x48, bytes([2 << 2]))),
        ("reserved_key_info_bit", bad, f"{_TABLE}: bits 31:5 at 48h are reserved", _signed(0x48, b"\x20")),
        ("reserved_bytes_after_key_info", bad, f"{_TABLE}: 4Ch is reserved", _signed(0x4C, b"\1")),
        ("reserved_bytes_after_cpuid", bad, f"{_TABLE}: 18Bh is reserved", _signed(0x18B, b"\1")),
        ("cpuid_in_version_2", bad, f"{_TABLE}: 188h is reserved before version 3", _signed(0x188, b"\x19", 2)),
        ("reserved_byte_after_current_version", bad, f"{_TABLE}: 1EBh is reserved", _signed(0x1EB, b"\1")),
        ("reserved_byte_after_committed_version", bad, f"{_TABLE}: 1EFh is reserved", _signed(0x1EF, b"\1")),
        ("mitigation_vector_in_version_3", bad, f"{_TABLE}: 1F8h is reserved before version 5", _signed(0x1F8, b"\1", 3)),
        ("reserved_bytes_at_the_end", bad, f"{_TABLE}: 208h is reserved", _signed(0x29F, b"\1")),
        ("reserved_byte_in_a_tcb", bad, 'AMD 56860, table "TCB_VERSION": bytes 2 to 5 are reserved', _signed(0x1F2, b"\1")),
        ("padding_of_r", bad, 'AMD 56860, "ECDSA P-384 Signature": bytes 48 to 71 are zero', _patched(0x2A0 + 71, b"\1")),
        ("padding_of_s", bad, 'AMD 56860, "ECDSA P-384 Signature": bytes 48 to 71 are zero', _patched(0x2E8 + 48, b"\1")),
        ("bytes_after_the_signature", bad, 'AMD 56860, "ECDSA P-384 Signature": the rest is reserved', _patched(0x49F, b"\1")),
    ]  # fmt: skip
    return tuple(MalformedCase(*case) for case in cases)

"""ATTESTATION_REPORT of SEV-SNP: 1184 bytes become a frozen value that keeps its bytes.

Source: AMD, *SEV Secure Nested Paging Firmware ABI Specification* (document 56860), revision 1.58, table
"ATTESTATION_REPORT Structure". The layout is one for all versions; what older versions reserve must be zero:

    version 1, 2   0x188..0x1A0 reserved (no CPUID)
    version 3, 4   CPUID family, model, stepping at 0x188; 0x1F8..0x208 reserved
    version 5      mitigation vectors at 0x1F8 and 0x200

Version 1 came from firmware before 1.42 and is parsed for display only; the verifier refuses it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TypedDict

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey
from policy.wire import ByteReader

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
_VERSIONS = range(1, 6)
_KEY_INFO_DEFINED = 0x1F
_SCALAR = 48
_SIGNING_KEYS = {member.value: member for member in SigningKey}


@dataclass(frozen=True, slots=True)
class SnpReport:
    """A parsed, unverified report. Byte strings stand in wire order.

    The four ``*_tcb`` are the 8 raw bytes: their layout depends on the product, which a version 2 report does not
    state. ``cpuid_*`` are ``None`` before version 3 and the mitigation vectors before version 5. ``signature_r`` and
    ``signature_s`` are 48 bytes, little-endian.
    """

    raw: bytes = field(repr=False)
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: bytes
    platform_info: PlatformInfo
    key_info: KeyInfo
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid_fam_id: int | None
    cpuid_mod_id: int | None
    cpuid_step: int | None
    chip_id: bytes
    committed_tcb: bytes
    current_build: int
    current_minor: int
    current_major: int
    committed_build: int
    committed_minor: int
    committed_major: int
    launch_tcb: bytes
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: bytes = field(repr=False)
    signature_s: bytes = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> SnpReport:
        """Exactly 1184 bytes.

        Raises :class:`EvidenceMalformed` for a wrong size, non-zero reserved bytes or a reserved signing key, and
        :class:`EvidenceUnsupported` for a version outside 1..5.
        """
        raw = bytes(raw)
        if len(raw) != REPORT_SIZE:
            raise EvidenceMalformed(f"report: got {len(raw)} bytes, want {REPORT_SIZE}")
        reader = ByteReader(raw, "report", error=EvidenceMalformed)
        version = reader.u32("version")
        if version not in _VERSIONS:
            raise EvidenceUnsupported(f"report: version at 0x0 is {version}, want 1 to 5")
        return cls(
            raw=raw,
            version=version,
            guest_svn=reader.u32("guest_svn"),
            policy=GuestPolicy(reader.u64("policy")),
            family_id=reader.take(16, "family_id"),
            image_id=reader.take(16, "image_id"),
            vmpl=reader.u32("vmpl"),
            signature_algo=reader.u32("signature_algo"),
            current_tcb=reader.take(8, "current_tcb"),
            platform_info=PlatformInfo(reader.u64("platform_info")),
            **_key_info(reader),
            report_data=reader.take(64, "report_data"),
            measurement=reader.take(48, "measurement"),
            host_data=reader.take(32, "host_data"),
            id_key_digest=reader.take(48, "id_key_digest"),
            author_key_digest=reader.take(48, "author_key_digest"),
            report_id=reader.take(32, "report_id"),
            report_id_ma=reader.take(32, "report_id_ma"),
            reported_tcb=reader.take(8, "reported_tcb"),
            **_cpuid(reader, version),
            chip_id=reader.take(64, "chip_id"),
            committed_tcb=reader.take(8, "committed_tcb"),
            **_firmware_versions(reader),
            launch_tcb=reader.take(8, "launch_tcb"),
            **_mitigation_vectors(reader, version),
            **_signature(reader),
        )

    @property
    def signed(self) -> bytes:
        """The 672 bytes 0x000..0x29F that the signature covers."""
        return self.raw[:SIGNED_SIZE]

    @property
    def signed_sha256(self) -> bytes:
        """SHA-256 of the signed bytes. Identify reports by this only: a signature can be altered and still verify."""
        return hashlib.sha256(self.raw[:SIGNED_SIZE]).digest()


class _KeyInfo(TypedDict):
    key_info: KeyInfo
    signing_key: SigningKey


class _Cpuid(TypedDict):
    cpuid_fam_id: int | None
    cpuid_mod_id: int | None
    cpuid_step: int | None


class _FirmwareVersions(TypedDict):
    current_build: int
    current_minor: int
    current_major: int
    committed_build: int
    committed_minor: int
    committed_major: int


class _Vectors(TypedDict):
    launch_mit_vector: int | None
    current_mit_vector: int | None


class _Signature(TypedDict):
    signature_r: bytes
    signature_s: bytes


def _key_info(reader: ByteReader) -> _KeyInfo:
    key_info = KeyInfo(reader.u32("key_info"))
    if key_info & ~_KEY_INFO_DEFINED:
        raise EvidenceMalformed(f"report: key_info at 0x48 has reserved bits set, got 0x{key_info:x}")
    code = key_info >> 2 & 7
    if code not in _SIGNING_KEYS:
        raise EvidenceMalformed(f"report: signing key at 0x48 is {code}, want 0 (VCEK), 1 (VLEK) or 7 (none)")
    reader.zero(4, "reserved")
    return {"key_info": key_info, "signing_key": _SIGNING_KEYS[code]}


def _cpuid(reader: ByteReader, version: int) -> _Cpuid:
    if version < 3:
        reader.zero(24, "reserved")
        return {"cpuid_fam_id": None, "cpuid_mod_id": None, "cpuid_step": None}
    family, model, step = reader.u8("cpuid_fam_id"), reader.u8("cpuid_mod_id"), reader.u8("cpuid_step")
    reader.zero(21, "reserved")
    return {"cpuid_fam_id": family, "cpuid_mod_id": model, "cpuid_step": step}


def _firmware_versions(reader: ByteReader) -> _FirmwareVersions:
    """Current, then committed: build, minor, major in this order, and one reserved byte each."""
    build, minor, major = reader.u8("current_build"), reader.u8("current_minor"), reader.u8("current_major")
    reader.zero(1, "reserved")
    versions: _FirmwareVersions = {
        "current_build": build,
        "current_minor": minor,
        "current_major": major,
        "committed_build": reader.u8("committed_build"),
        "committed_minor": reader.u8("committed_minor"),
        "committed_major": reader.u8("committed_major"),
    }
    reader.zero(1, "reserved")
    return versions


def _mitigation_vectors(reader: ByteReader, version: int) -> _Vectors:
    if version < 5:
        reader.zero(168, "reserved")
        return {"launch_mit_vector": None, "current_mit_vector": None}
    launch, current = reader.u64("launch_mit_vector"), reader.u64("current_mit_vector")
    reader.zero(152, "reserved")
    return {"launch_mit_vector": launch, "current_mit_vector": current}


def _signature(reader: ByteReader) -> _Signature:
    """Two 72-byte little-endian integers, of which P-384 fills 48 bytes, then 368 reserved bytes (AMD 56860, ch.
    10).
    """
    r = reader.take(_SCALAR, "signature r")
    reader.zero(24, "signature r padding")
    s = reader.take(_SCALAR, "signature s")
    reader.zero(24, "signature s padding")
    reader.zero(368, "signature reserved")
    reader.end()
    return {"signature_r": r, "signature_s": s}

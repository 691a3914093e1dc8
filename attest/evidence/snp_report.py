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
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey
from policy.wire import ByteReader

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
_VERSIONS = range(1, 6)
_KEY_INFO_DEFINED = 0x1F
_SHORT_CHIP_ID = 8
_SIGNING_KEYS = {member.value: member for member in SigningKey}
# One unpacking for the whole structure, because every verdict pays for it; "x" are the bytes of _RESERVED.
_LAYOUT = Struct(
    "<I I Q 16s 16s I I 8s Q I 4x 64s 48s 32s 48s 48s 32s 32s 8s 3B 21x 64s 8s 3B x 3B x 8s Q Q 152x"
    "48s 24x 48s 24x 368x"
)
_ALWAYS_ZERO = (
    (0x4C, 0x50, "reserved"),
    (0x18B, 0x1A0, "reserved"),
    (0x1EB, 0x1EC, "reserved"),
    (0x1EF, 0x1F0, "reserved"),
    (0x208, 0x2A0, "reserved"),
    (0x2D0, 0x2E8, "signature r padding"),
    (0x318, 0x330, "signature s padding"),
    (0x330, 0x4A0, "signature reserved"),
)
_BEFORE = {3: (0x188, 0x18B, "reserved"), 5: (0x1F8, 0x208, "reserved")}
_RESERVED = {
    version: tuple(sorted((*_ALWAYS_ZERO, *(span for first, span in _BEFORE.items() if version < first))))
    for version in _VERSIONS
}
"""Start, end and name of what must be zero, by report version: fields are reserved before the version that has them."""


def _only(spans: Iterable[tuple[int, int, str]]) -> Struct:
    """A structure that unpacks to these bytes of a report and no others."""
    parts, at = ["<"], 0
    for start, end, _ in spans:
        parts.append(f"{start - at}x {end - start}s")
        at = end
    return Struct(" ".join(parts))


# All reserved bytes at once, because every verdict pays for it.
_SPARE = {version: _only(spans) for version, spans in _RESERVED.items()}
_ZEROS = {version: spare.unpack(bytes(REPORT_SIZE)) for version, spare in _SPARE.items()}


class SnpReport(NamedTuple):
    """A parsed, unverified report. Byte strings stand in wire order.

    A tuple, because a frozen dataclass of so many fields takes ten times as long to make.

    The four ``*_tcb`` are the 8 raw bytes: their layout depends on the product, which a version 2 report does not
    state. ``cpuid_*`` are ``None`` before version 3 and the mitigation vectors before version 5. ``signature_r`` and
    ``signature_s`` are 48 bytes, little-endian.
    """

    raw: bytes
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
    signature_r: bytes
    signature_s: bytes

    @classmethod
    def parse(cls, raw: bytes) -> SnpReport:
        """Exactly 1184 bytes.

        Raises :class:`EvidenceMalformed` for a wrong size, non-zero reserved bytes or a reserved signing key, and
        :class:`EvidenceUnsupported` for a version outside 1..5.
        """
        raw = bytes(raw)
        if len(raw) != REPORT_SIZE:
            raise EvidenceMalformed(f"report: got {len(raw)} bytes, want {REPORT_SIZE}")
        (
            version, guest_svn, policy, family_id, image_id, vmpl, signature_algo, current_tcb, platform_info, key_info,
            report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma,
            reported_tcb, family, model, step, chip_id, committed_tcb, current_build, current_minor, current_major,
            committed_build, committed_minor, committed_major, launch_tcb, launch_vector, current_vector, r, s,
        ) = _LAYOUT.unpack(raw)  # fmt: skip
        if version not in _VERSIONS:
            raise EvidenceUnsupported(f"report: version at 0x0 is {version}, want 1 to 5")
        signing_key = _signing_key(key_info)
        if _SPARE[version].unpack(raw) != _ZEROS[version]:
            _refuse_reserved(raw, version)
        names_cpu, has_vectors = version >= 3, version >= 5
        return cls._make((
            raw, version, guest_svn, GuestPolicy(policy), family_id, image_id, vmpl, signature_algo, current_tcb,
            PlatformInfo(platform_info), KeyInfo(key_info), signing_key, report_data, measurement, host_data,
            id_key_digest, author_key_digest, report_id, report_id_ma, reported_tcb,
            family if names_cpu else None, model if names_cpu else None, step if names_cpu else None,
            chip_id, committed_tcb, current_build, current_minor, current_major,
            committed_build, committed_minor, committed_major, launch_tcb,
            launch_vector if has_vectors else None, current_vector if has_vectors else None, r, s,
        ))  # fmt: skip

    @property
    def has_short_chip_id(self) -> bool:
        """Whether only the first 8 bytes of CHIP_ID are used, as on Turin: all that says so before version 3."""
        return any(self.chip_id[:_SHORT_CHIP_ID]) and not any(self.chip_id[_SHORT_CHIP_ID:])

    @property
    def signed(self) -> bytes:
        """The 672 bytes 0x000..0x29F that the signature covers."""
        return self.raw[:SIGNED_SIZE]

    @property
    def signed_sha256(self) -> bytes:
        """SHA-256 of the signed bytes. Identify reports by this only: a signature can be altered and still verify."""
        return hashlib.sha256(self.raw[:SIGNED_SIZE]).digest()


def _signing_key(key_info: int) -> SigningKey:
    if key_info & ~_KEY_INFO_DEFINED:
        raise EvidenceMalformed(f"report: key_info at 0x48 has reserved bits set, got 0x{key_info:x}")
    code = key_info >> 2 & 7
    if code not in _SIGNING_KEYS:
        raise EvidenceMalformed(f"report: signing key at 0x48 is {code}, want 0 (VCEK), 1 (VLEK) or 7 (none)")
    return _SIGNING_KEYS[code]


def _refuse_reserved(raw: bytes, version: int) -> None:
    """The reader's own words about the first bytes that must be zero and are not."""
    for start, end, name in _RESERVED[version]:
        ByteReader(raw[start:end], "report", error=EvidenceMalformed, base=start).zero(end - start, name)

"""TDREPORT: what the TDX module tells a guest about itself, 1024 bytes. It proves nothing to a remote party.

    0x000  256  REPORTMACSTRUCT: type, CPUSVN, hashes of the other two parts, REPORTDATA, MAC
    0x100  239  TEE_TCB_INFO: the TDX module; then 17 reserved bytes
    0x200  512  TDINFO: the trust domain

The MAC can be checked on the machine that made it only (the quoting enclave does); anyone can write the rest, and the
two hashes to go with it. Sources: Intel, *TDX Module ABI Specification* (348551), tables "TDREPORT_STRUCT",
"REPORTMACSTRUCT", "TEE_TCB_INFO", "TDINFO_STRUCT". Integers are little-endian.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.td_report import TdReportBody
from policy.tdx import TdAttributes, Xfam
from policy.wire import ByteReader

TDREPORT_SIZE = 1024
REPORT_TYPE_TDX = 0x81
_TCB_INFO = slice(256, 495)
_TD_INFO = slice(512, 1024)
_VERSIONS = range(3)
_SAME = (
    "tee_tcb_svn", "mrseam", "mrsignerseam", "td_attributes", "xfam", "mrtd", "mrconfigid", "mrowner",
    "mrownerconfig", "rtmrs", "report_data",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TdReportStruct:
    """A parsed TDREPORT; ``raw`` are its 1024 bytes and the fields are named as in a TD quote's body.

    ``tcb_info_valid`` is the bit map of what the module filled in. ``newer`` are the last 64 bytes, which versions 0
    and 1 leave zero. Hashes and ``mac`` are as stated, unchecked.
    """

    raw: bytes = field(repr=False)
    version: int
    cpusvn: bytes
    tee_tcb_info_hash: bytes
    tee_info_hash: bytes
    report_data: bytes
    mac: bytes
    tcb_info_valid: bytes
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: int
    tee_tcb_svn2: bytes
    td_attributes: TdAttributes
    xfam: Xfam
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    mrservicetd: bytes
    newer: bytes

    @property
    def tee_tcb_info_hash_fits(self) -> bool:
        """SHA-384 of the 239 bytes of TEE_TCB_INFO is the hash stated: nothing was damaged, nothing is proven."""
        return hashlib.sha384(self.raw[_TCB_INFO]).digest() == self.tee_tcb_info_hash

    @property
    def tee_info_hash_fits(self) -> bool:
        """SHA-384 of the 512 bytes of TDINFO is the hash stated: nothing was damaged, nothing is proven."""
        return hashlib.sha384(self.raw[_TD_INFO]).digest() == self.tee_info_hash

    def differences(self, body: TdReportBody) -> tuple[str, ...]:
        """The fields in which a quote's body is about something else than this TDREPORT; none for the same TD."""
        return tuple(name for name in _SAME if getattr(self, name) != getattr(body, name))


def parse_tdreport(data: bytes) -> TdReportStruct:
    """Exactly 1024 bytes.

    Raises :class:`EvidenceMalformed` for a wrong size and non-zero reserved bytes, :class:`EvidenceUnsupported` for a
    report of another TEE, sub-type or version.
    """
    raw = bytes(data)
    if len(raw) != TDREPORT_SIZE:
        raise EvidenceMalformed(f"TDREPORT: got {len(raw)} bytes, want {TDREPORT_SIZE}")
    reader = ByteReader(raw, "TDREPORT", error=EvidenceMalformed)
    version = _version(reader)
    newest = version == _VERSIONS[-1]
    cpusvn = reader.take(16, "cpusvn")
    tcb_info_hash, info_hash = reader.take(48, "tee_tcb_info_hash"), reader.take(48, "tee_info_hash")
    report_data = reader.take(64, "report_data")
    reader.zero(32, "reserved")
    mac = reader.take(32, "mac")
    valid, svn = reader.take(8, "tcb_info_valid"), reader.take(16, "tee_tcb_svn")
    mrseam, mrsignerseam = reader.take(48, "mrseam"), reader.take(48, "mrsignerseam")
    seamattributes, svn2 = reader.u64("seamattributes"), reader.take(16, "tee_tcb_svn2")
    _reserved(reader, 95, newest)
    reader.zero(17, "reserved")
    return TdReportStruct(
        raw=raw,
        version=version,
        cpusvn=cpusvn,
        tee_tcb_info_hash=tcb_info_hash,
        tee_info_hash=info_hash,
        report_data=report_data,
        mac=mac,
        tcb_info_valid=valid,
        tee_tcb_svn=svn,
        mrseam=mrseam,
        mrsignerseam=mrsignerseam,
        seamattributes=seamattributes,
        tee_tcb_svn2=svn2,
        td_attributes=TdAttributes(reader.u64("td_attributes")),
        xfam=Xfam(reader.u64("xfam")),
        mrtd=reader.take(48, "mrtd"),
        mrconfigid=reader.take(48, "mrconfigid"),
        mrowner=reader.take(48, "mrowner"),
        mrownerconfig=reader.take(48, "mrownerconfig"),
        rtmrs=(reader.take(48, "rtmr0"), reader.take(48, "rtmr1"), reader.take(48, "rtmr2"), reader.take(48, "rtmr3")),
        mrservicetd=reader.take(48, "mrservicetd"),
        newer=_reserved(reader, 64, newest),
    )


def _version(reader: ByteReader) -> int:
    """REPORTTYPE: type, sub-type, version, one reserved byte; 12 more follow."""
    kind, subtype, version = reader.u8("type"), reader.u8("sub-type"), reader.u8("version")
    if kind != REPORT_TYPE_TDX or subtype:
        raise EvidenceUnsupported(f"TDREPORT: type 0x{kind:x} sub-type {subtype}, want 0x{REPORT_TYPE_TDX:x} and 0")
    if version not in _VERSIONS:
        raise EvidenceUnsupported(f"TDREPORT: version at 0x2 is {version}, want 0 to {_VERSIONS[-1]}")
    reader.zero(13, "reserved")
    return version


def _reserved(reader: ByteReader, count: int, newest: bool) -> bytes:
    """Bytes that versions 0 and 1 leave zero; version 2 fills some of them."""
    if newest:
        return reader.take(count, "added in version 2")
    reader.zero(count, "reserved")
    return bytes(count)

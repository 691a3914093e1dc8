"""The 384-byte body of an SGX report: what an enclave is.

It stands in every quote, as the report of the quoting enclave (QE), and in an SGX quote as the attested body too.
Source: Intel, *Software Developer's Manual*, volume 3D, table "REPORT"; Intel, *SGX ECDSA Quote Library API*, appendix
A.4, table "Enclave Report Body". Integers are little-endian.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from attest.evidence.errors import EvidenceMalformed
from policy.tdx import SgxAttributes, Xfam
from policy.wire import ByteReader

SGX_BODY_SIZE = 384
_ATTRIBUTES = slice(48, 64)


@dataclass(frozen=True, slots=True)
class SgxReportBody:
    """A parsed, unverified report body; ``raw`` are its 384 bytes and byte strings stand in wire order.

    ``miscselect`` is the integer of 4 little-endian bytes, ``attributes`` the low 64 bits of ATTRIBUTES and ``xfrm``
    the high 64. ``isvextprodid`` and ``isvfamilyid`` have 16 bytes, ``mrenclave`` and ``mrsigner`` 32, ``configid``
    and ``report_data`` 64.
    """

    raw: bytes = field(repr=False)
    cpusvn: bytes
    miscselect: int
    isvextprodid: bytes
    attributes: SgxAttributes
    xfrm: Xfam
    mrenclave: bytes
    mrsigner: bytes
    configid: bytes
    isvprodid: int
    isvsvn: int
    configsvn: int
    isvfamilyid: bytes
    report_data: bytes

    @property
    def sha256(self) -> bytes:
        """Of the whole body: what the PCK key signs of a quoting enclave's report."""
        return hashlib.sha256(self.raw).digest()

    @property
    def attributes_raw(self) -> bytes:
        """The 16 bytes of ATTRIBUTES, flags and XFRM, to which an identity's mask applies."""
        return self.raw[_ATTRIBUTES]


def parse_sgx_body(raw: bytes, what: str = "SGX report body", *, base: int = 0) -> SgxReportBody:
    """Exactly 384 bytes; ``what`` and ``base`` (where they stand in their file) begin the messages.

    Raises :class:`EvidenceMalformed` for a wrong size and for reserved bytes that are not zero.
    """
    reader = ByteReader(raw, what, error=EvidenceMalformed, base=base)
    cpusvn, miscselect = reader.take(16, "cpusvn"), reader.u32("miscselect")
    reader.zero(12, "reserved")
    isvextprodid = reader.take(16, "isvextprodid")
    attributes, xfrm = reader.u64("attributes"), reader.u64("xfrm")
    mrenclave = reader.take(32, "mrenclave")
    reader.zero(32, "reserved")
    mrsigner = reader.take(32, "mrsigner")
    reader.zero(32, "reserved")
    configid = reader.take(64, "configid")
    isvprodid, isvsvn, configsvn = reader.u16("isvprodid"), reader.u16("isvsvn"), reader.u16("configsvn")
    reader.zero(42, "reserved")
    isvfamilyid, report_data = reader.take(16, "isvfamilyid"), reader.take(64, "report_data")
    reader.end()
    return SgxReportBody(
        raw=bytes(raw),
        cpusvn=cpusvn,
        miscselect=miscselect,
        isvextprodid=isvextprodid,
        attributes=SgxAttributes(attributes),
        xfrm=Xfam(xfrm),
        mrenclave=mrenclave,
        mrsigner=mrsigner,
        configid=configid,
        isvprodid=isvprodid,
        isvsvn=isvsvn,
        configsvn=configsvn,
        isvfamilyid=isvfamilyid,
        report_data=report_data,
    )

"""The body of a TD quote: what a trust domain is. Three layouts, each an extension of the one before.

    1.0            584 bytes   quote version 4, and body type 2 of version 5
    1.5            648         body type 3: adds TEE_TCB_SVN2 and MRSERVICETD
    1.5-extended   885         body type 4: adds identity, device and migration fields

Source: Intel, *TDX DCAP Quoting Library API*, appendix A.3, tables "TD Report 1.0" and "TD Report 1.5"; the extended
body is as in Intel's quote verification library. Integers are little-endian. Undefined attribute bits are kept: whether
they are tolerated is judged later, and named there.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed
from policy.tdx import TdAttributes, Xfam
from policy.wire import ByteReader

BODY_10, BODY_15, BODY_15_EXTENDED = "1.0", "1.5", "1.5-extended"
TD_BODY_SIZES = {BODY_10: 584, BODY_15: 648, BODY_15_EXTENDED: 885}
# The 12 bytes of init_tee_fmspc encode a processor model; they are not the 6-byte FMSPC of certificates.
_EXTENDED = (
    ("vmid", 1), ("td_id", 32), ("devinfo", 48), ("init_servtd_hash", 48), ("init_servtd_attr", 8),
    ("init_cpusvn", 16), ("init_tee_tcb_svn", 16), ("init_tee_fmspc", 12), ("cur_servtd_hash", 48),
    ("cur_servtd_attr", 8),
)  # fmt: skip


# One unpacking for what all layouts begin with, because every verdict pays for it.
_LAYOUT_10 = Struct("<16s48s48sQQQ48s48s48s48s48s48s48s48s64s")


class TdReportBody(NamedTuple):
    """A parsed, unverified body; ``raw`` are its bytes and byte strings stand in wire order.

    Measurements have 48 bytes, SVNs 16, ``report_data`` 64. In ``tee_tcb_svn`` byte 0 is the TDX module's minor SVN
    and byte 1 its major version. ``tee_tcb_svn2`` (the module that runs now) and ``mrservicetd`` are ``None`` in body
    1.0; ``extended`` holds the further fields of body 1.5-extended, by name, in hexadecimal. A tuple, as every verdict
    makes one and a frozen dataclass takes three times as long.
    """

    raw: bytes
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: int
    td_attributes: TdAttributes
    xfam: Xfam
    mrtd: bytes
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mrservicetd: bytes | None
    extended: tuple[tuple[str, str], ...]


def parse_td_body(raw: bytes, layout: str, *, base: int = 0) -> TdReportBody:
    """Exactly as many bytes as ``layout`` has; ``base`` is where they stand in their file, for messages.

    Raises :class:`EvidenceMalformed` for any other size; no byte of a body is reserved.
    """
    if len(raw) != TD_BODY_SIZES[layout]:
        raise EvidenceMalformed(f"TD report {layout}: got {len(raw)} bytes, want {TD_BODY_SIZES[layout]}")
    (
        tee_tcb_svn, mrseam, mrsignerseam, seamattributes, td_attributes, xfam, mrtd, mrconfigid, mrowner,
        mrownerconfig, rtmr0, rtmr1, rtmr2, rtmr3, report_data,
    ) = _LAYOUT_10.unpack_from(raw)  # fmt: skip
    tee_tcb_svn2, mrservicetd, extended = (None, None, ()) if layout == BODY_10 else _newer(raw, layout, base)
    # By position, in the order of the fields: this is read once for every quote.
    return TdReportBody(
        bytes(raw), tee_tcb_svn, mrseam, mrsignerseam, seamattributes, TdAttributes(td_attributes), Xfam(xfam), mrtd,
        mrconfigid, mrowner, mrownerconfig, (rtmr0, rtmr1, rtmr2, rtmr3), report_data, tee_tcb_svn2, mrservicetd,
        extended,
    )  # fmt: skip


def _newer(raw: bytes, layout: str, base: int) -> tuple[bytes, bytes, tuple[tuple[str, str], ...]]:
    """What the bodies after 1.0 have at their end."""
    reader = ByteReader(raw, f"TD report {layout}", error=EvidenceMalformed, base=base)
    reader.skip(_LAYOUT_10.size, "body 1.0")
    svn, service = reader.take(16, "tee_tcb_svn2"), reader.take(48, "mrservicetd")
    extended = _EXTENDED if layout == BODY_15_EXTENDED else ()
    return svn, service, tuple((name, reader.take(size, name).hex()) for name, size in extended)

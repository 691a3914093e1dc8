"""Intel quotes: SGX (version 3) and TDX (versions 4 and 5), as bytes that become a frozen value.

    0     48   header: version, attestation key type, TEE type, QE SVN, PCE SVN, QE vendor, user data
    48         version 5 only: u16 body type, u32 body size
    …          body: SGX report (384 bytes) or TD report (584, 648 or 885)
               --- the attestation key's signature covers everything up to here ---
    …     4    size of the signature data
    …          signature data, then zeros where a platform pads its buffer

Signature data, version 3: signature, attestation key, QE report, its signature, QE authentication data, certification
data. Versions 4 and 5 wrap all that follows the key into certification data of type 6, and every length must enclose
exactly what is inside. Sources: Intel, *SGX ECDSA Quote Library API*, appendix A.4; Intel, *TDX DCAP Quoting Library
API*, appendix A.3. Integers are little-endian; ECDSA numbers are 32 bytes, big-endian.

Zeros after the signature data are tolerated because clouds deliver whole buffers (up to 3065 bytes seen); any other
byte there is refused: nobody vouches for it, and a reader that skips it hides it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from attest.evidence.certification import NESTED, CertificationData, parse_certification
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.sgx_report import SGX_BODY_SIZE, SgxReportBody, parse_sgx_body
from attest.evidence.td_report import BODY_10, BODY_15, BODY_15_EXTENDED, TD_BODY_SIZES, TdReportBody, parse_td_body
from policy.wire import ByteReader

MAX_QUOTE = 64 * 1024
HEADER_SIZE = 48
_HEADER = Struct("<H H I H H 16s 20s")
# Signature, attestation key, type and size of the certification data: one unpacking, because every verdict pays for it.
_SIGNED_MATERIAL = Struct("<64s64sHI")
BODY_SGX = "sgx"
TEE_SGX, TEE_TDX = 0, 0x81
KEY_ECDSA_P256 = 2
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_KEY_TYPES = {0: "EPID unlinkable", 1: "EPID linkable", 3: "ECDSA P-384"}
_SIZES = {BODY_SGX: SGX_BODY_SIZE, **TD_BODY_SIZES}
_BODY_TYPES = {1: BODY_SGX, 2: BODY_10, 3: BODY_15, 4: BODY_15_EXTENDED}


class Quote(NamedTuple):
    """A parsed, unverified quote.

    ``raw`` are the bytes as received without the zeros after them, of which ``padding`` counts the number; ``signed``
    is the part that ``signature`` (64 bytes r || s) covers. ``body_type`` is ``sgx``, ``1.0``, ``1.5`` or
    ``1.5-extended``. ``qe_svn`` and ``pce_svn`` are header fields that versions 4 and 5 leave zero; nobody should rely
    on them. ``attestation_key`` is x || y (64 bytes), not yet known to be a point. ``qe_vendor_id`` has 16 bytes,
    ``user_data`` 20.
    """

    raw: bytes
    signed: bytes
    version: int
    attestation_key_type: int
    tee_type: int
    qe_svn: int
    pce_svn: int
    qe_vendor_id: bytes
    user_data: bytes
    body: TdReportBody | SgxReportBody
    body_type: str
    signature: bytes
    attestation_key: bytes
    qe_report: SgxReportBody
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: CertificationData
    padding: int

    @property
    def is_tdx(self) -> bool:
        """A quote of a trust domain, not of an SGX enclave."""
        return self.tee_type == TEE_TDX

    @property
    def signed_sha256(self) -> bytes:
        """SHA-256 of the signed bytes. Identify quotes by this only: a signature can be altered and still verify."""
        return hashlib.sha256(self.signed).digest()


def parse_quote(data: bytes) -> Quote:
    """Read one quote completely.

    Raises :class:`EvidenceMalformed` for sizes that do not fit each other, reserved bytes and trailing bytes that are
    not zero, and :class:`EvidenceUnsupported` for a version, key, TEE, body or certification data type by its name.
    """
    data = bytes(data)
    if len(data) > MAX_QUOTE:
        raise EvidenceMalformed(f"quote: {len(data)} bytes, want at most {MAX_QUOTE}")
    reader = ByteReader(data, "quote", error=EvidenceMalformed)
    header = _header(reader)
    version, _, tee_type = header[:3]
    body_type = _body_type(reader, version, tee_type)
    start = reader.offset
    raw_body = reader.take(_SIZES[body_type], "body")
    signed = data[: reader.offset]
    size = reader.u32("signature data size")
    base = reader.offset
    signature, key, qe = _signature_data(reader.take(size, "signature data"), version, base)
    end, padding = reader.offset, reader.remaining
    if padding:
        reader.zero(padding, "padding")
    body: TdReportBody | SgxReportBody
    if body_type == BODY_SGX:
        body = parse_sgx_body(raw_body, base=start)
    else:
        body = parse_td_body(raw_body, body_type, base=start)
    # By position, in the order of the fields: every verdict makes one.
    return Quote(data[:end], signed, *header, body, body_type, signature, key, *qe, padding)


_Header = tuple[int, int, int, int, int, bytes, bytes]
"""Version, attestation key type, TEE type, QE SVN, PCE SVN, QE vendor, user data."""


class _QeMaterial(NamedTuple):
    report: SgxReportBody
    signature: bytes
    auth_data: bytes
    certification: CertificationData


_SignatureData = tuple[bytes, bytes, _QeMaterial]
"""Signature and attestation key, 64 bytes each, and what vouches for the key."""


def _header(reader: ByteReader) -> _Header:
    """48 bytes. In version 3 the bytes of the TEE type are reserved and the QE and PCE SVNs are meant seriously."""
    header: _Header = _HEADER.unpack(reader.take(HEADER_SIZE, "header"))
    version, key_type, tee_type = header[:3]
    if version not in (3, 4, 5):
        raise EvidenceUnsupported(f"quote: version at 0x0 is {version}, want 3, 4 or 5")
    if key_type != KEY_ECDSA_P256:
        name = _KEY_TYPES.get(key_type, "unknown")
        raise EvidenceUnsupported(f"quote: attestation key type at 0x2 is {key_type} ({name}), want 2 (ECDSA P-256)")
    if version == 3 and tee_type != TEE_SGX:
        raise reader.fail(f"reserved at 0x4..0x8 must be zero in version 3, got 0x{tee_type:x}")
    if tee_type not in (TEE_SGX, TEE_TDX):
        raise EvidenceUnsupported(f"quote: TEE type at 0x4 is 0x{tee_type:x}, want 0x0 (SGX) or 0x81 (TDX)")
    return header


def _body_type(reader: ByteReader, version: int, tee_type: int) -> str:
    """Version 5 states it; before, it follows from the TEE type."""
    if version < 5:
        return BODY_10 if tee_type == TEE_TDX else BODY_SGX
    code, size = reader.u16("body type"), reader.u32("body size")
    if code not in _BODY_TYPES:
        raise EvidenceUnsupported(f"quote: body type at 0x30 is {code}, want 1 (SGX), 2, 3 or 4 (TD report)")
    name = _BODY_TYPES[code]
    if (name == BODY_SGX) != (tee_type == TEE_SGX):
        raise reader.fail(f"body type at 0x30 is {code} ({name}), which does not fit TEE type 0x{tee_type:x}")
    if size != _SIZES[name]:
        raise reader.fail(f"body size at 0x32 is {size}, want {_SIZES[name]} for body type {code} ({name})")
    return name


def _signature_data(data: bytes, version: int, base: int) -> _SignatureData:
    start = _SIGNED_MATERIAL.size
    if version > 3 and len(data) >= start:
        signature, key, kind, size = _SIGNED_MATERIAL.unpack_from(data)
        if kind == NESTED and size == len(data) - start:
            return signature, key, nested_material(data[start:], base + start)
    # Version 3, or something does not fit: step by step, so that it can be said what.
    reader = ByteReader(data, "quote signature data", error=EvidenceMalformed, base=base)
    signature, key = reader.take(64, "signature"), reader.take(64, "attestation key")
    if version == 3:
        return signature, key, _qe_material(reader, base)
    kind, size = reader.u16("certification data type"), reader.u32("certification data size")
    if kind != NESTED:
        raise reader.fail(f"certification data type is {kind}, want {NESTED} (QE report) in version {version}")
    qe = nested_material(reader.take(size, "QE report certification data"), base + start)
    reader.end()
    return signature, key, qe


@lru_cache(maxsize=256)
def nested_material(data: bytes, base: int) -> _QeMaterial:
    """Certification data of type 6 at ``base``, the same bytes in every quote of a platform: so read once, and at most
    16 MB are remembered.
    """
    return _qe_material(ByteReader(data, "QE report certification data", error=EvidenceMalformed, base=base), base)


def _qe_material(reader: ByteReader, base: int) -> _QeMaterial:
    """QE report, its signature, authentication data and certification data; nothing may follow."""
    where = base + reader.offset
    report = parse_sgx_body(reader.take(SGX_BODY_SIZE, "QE report"), "QE report", base=where)
    signature = reader.take(64, "QE report signature")
    auth_data = reader.take(reader.u16("QE authentication data size"), "QE authentication data")
    kind, size = reader.u16("certification data type"), reader.u32("certification data size")
    certification = parse_certification(kind, reader.take(size, "certification data"), base=base + reader.offset - size)
    reader.end()
    return _QeMaterial(report, signature, auth_data, certification)

"""Intel-shaped certificates, lists, signed JSON and quotes under keys of one's own: for the emulated TD and the tests.

    Intel SGX Root CA → Intel SGX PCK Platform CA → Intel SGX PCK Certificate (SGX extension)
                      → Intel SGX TCB Signing (TCB info, QE identity)

The common names must be Intel's because a verifier finds a certificate's place by them; the organisation says that
nothing here is Intel's. Everything is pure: keys and times come from the caller. Sources: Intel, *SGX PCK Certificate
and Certificate Revocation List Profile Specification*, revision 1.5; *TDX DCAP Quoting Library API*, appendix A.3.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attest.evidence.intel_certificate import IntelRole
from attest.evidence.quote import INTEL_QE_VENDOR
from attest.evidence.sgx_extension import SGX_EXTENSION, SgxExtension
from attest.evidence.td_report import BODY_10, BODY_15, BODY_15_EXTENDED

ORGANISATION = "cvm emulated platform (not Intel)"
_SHA256 = hashes.SHA256()
_TD_FIELDS = (
    ("tee_tcb_svn", 16), ("mrseam", 48), ("mrsignerseam", 48), ("seamattributes", 8), ("td_attributes", 8), ("xfam", 8),
    ("mrtd", 48), ("mrconfigid", 48), ("mrowner", 48), ("mrownerconfig", 48), ("rtmr0", 48), ("rtmr1", 48),
    ("rtmr2", 48), ("rtmr3", 48), ("report_data", 64),
)  # fmt: skip
_TD_FIELDS_15 = (("tee_tcb_svn2", 16), ("mrservicetd", 48))
_BODY_CODES = {"sgx": 1, BODY_10: 2, BODY_15: 3, BODY_15_EXTENDED: 4}
_EXTENDED_SIZE = 237
_SGX_FIELDS = {
    "cpusvn": (0, 16), "miscselect": (16, 4), "isvextprodid": (32, 16), "attributes": (48, 8), "xfrm": (56, 8),
    "mrenclave": (64, 32), "mrsigner": (128, 32), "configid": (192, 64), "isvprodid": (256, 2), "isvsvn": (258, 2),
    "configsvn": (260, 2), "isvfamilyid": (304, 16), "report_data": (320, 64),
}  # fmt: skip

Value = int | bytes


class Issued(NamedTuple):
    """A certificate and the private key it is about."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def spki_sha256(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo: how a root is named in a policy."""
        spki = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()


class Validity(NamedTuple):
    """First and last moment."""

    start: datetime
    end: datetime


def new_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    role: IntelRole, key: ec.EllipticCurvePrivateKey, issuer: Issued | None, validity: Validity, serial: int,
    sgx: SgxExtension | None = None, changes: Mapping[str, Any] | None = None,
) -> Issued:  # fmt: skip
    """A certificate of ``role``; ``issuer`` is ``None`` for the root.

    ``changes`` break one thing for tests: ``subject`` (common name), ``ca``, ``path_length``, ``usage``.
    """
    changes = changes or {}
    ca = role in (IntelRole.ROOT, IntelRole.PLATFORM_CA, IntelRole.PROCESSOR_CA)
    subject = _name(changes.get("subject", role.value))
    path_length = {IntelRole.ROOT: 1}.get(role, 0) if ca else None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(
            x509.BasicConstraints(changes.get("ca", ca), changes.get("path_length", path_length)), critical=True
        )
        .add_extension(_usage(changes.get("usage", ca)), critical=True)
    )
    if sgx is not None:
        value = encode_sgx_extension(sgx)
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION), value), critical=False
        )
    return Issued(builder.sign(key if issuer is None else issuer.key, _SHA256), key)


def revocation_list(
    issuer: Issued, validity: Validity, number: int, revoked: Iterable[int] = ()
) -> x509.CertificateRevocationList:
    """A list of ``issuer`` that is current within ``validity``."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(validity.start)
        .next_update(validity.end)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(validity.start).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, _SHA256)


def sign_raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """r || s, 32 bytes big-endian each."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(_SHA256)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signed_json(member: str, text: str, key: ec.EllipticCurvePrivateKey) -> bytes:
    """An answer as Intel serves it: ``text`` is the inner object and is signed as it stands."""
    return f'{{"{member}":{text},"signature":"{sign_raw(key, text.encode()).hex()}"}}'.encode()


def compact(value: object) -> str:
    """JSON without spaces, as Intel writes it."""
    return json.dumps(value, separators=(",", ":"))


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key as x || y, 64 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def td_body(layout: str, fields: Mapping[str, Value]) -> bytes:
    """A TD report of ``layout``; fields that are not given are zero, integers little-endian."""
    names = _TD_FIELDS if layout == BODY_10 else _TD_FIELDS + _TD_FIELDS_15
    body = b"".join(_field(fields.get(name, 0), size, name) for name, size in names)
    return body + bytes(_EXTENDED_SIZE) if layout == BODY_15_EXTENDED else body


def sgx_body(fields: Mapping[str, Value]) -> bytes:
    """An SGX report body, 384 bytes; fields that are not given are zero, integers little-endian."""
    body = bytearray(384)
    for name, value in fields.items():
        offset, size = _SGX_FIELDS[name]
        body[offset : offset + size] = _field(value, size, name)
    return bytes(body)


class QuoteKeys(NamedTuple):
    """What signs a quote: the PCK's key (for the QE report) and the attestation key."""

    pck: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey


class QuoteParts(NamedTuple):
    """All that a quote is made of. ``qe`` are fields of the QE report, whose report data follows from the key.

    ``certification`` is the content of certification data type ``certification_type``: PEM of the chain for type 5.
    """

    version: int
    body: bytes
    body_type: str
    qe: Mapping[str, Value]
    certification: bytes
    auth_data: bytes = bytes(range(32))
    certification_type: int = 5
    key_type: int = 2
    vendor: bytes = INTEL_QE_VENDOR
    user_data: bytes = bytes(20)


def build_quote(parts: QuoteParts, keys: QuoteKeys) -> bytes:
    """A signed quote of version 3, 4 or 5."""
    tee = 0 if parts.body_type == "sgx" else 0x81
    header = struct.pack("<HHIHH", parts.version, parts.key_type, tee, 0, 0) + parts.vendor + parts.user_data
    descriptor = b""
    if parts.version == 5:
        descriptor = struct.pack("<HI", _BODY_CODES[parts.body_type], len(parts.body))
    signed = header + descriptor + parts.body
    key = point(keys.attestation)
    bound = hashlib.sha256(key + parts.auth_data).digest() + bytes(32)
    qe = sgx_body({"report_data": bound, **parts.qe})
    inner = (
        qe
        + sign_raw(keys.pck, qe)
        + struct.pack("<H", len(parts.auth_data))
        + parts.auth_data
        + struct.pack("<HI", parts.certification_type, len(parts.certification))
        + parts.certification
    )
    if parts.version > 3:
        inner = struct.pack("<HI", 6, len(inner)) + inner
    material = sign_raw(keys.attestation, signed) + key + inner
    return signed + struct.pack("<I", len(material)) + material


def pem_chain(*certificates: bytes) -> bytes:
    """DER certificates as the PEM of certification data type 5, ended by a NUL as platforms do."""
    texts = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates]
    return b"".join(texts) + b"\0"


def encode_sgx_extension(sgx: SgxExtension) -> bytes:
    """The value of the extension; platform entries only where ``piid`` is set."""
    tcb = [(n, _der(0x02, _unsigned(svn))) for n, svn in enumerate(sgx.components, 1)]
    tcb += [(17, _der(0x02, _unsigned(sgx.pcesvn))), (18, _der(0x04, sgx.cpusvn))]
    entries = [
        (1, _der(0x04, sgx.ppid)),
        (2, _entries(tcb, b"\x02")),
        (3, _der(0x04, sgx.pceid)),
        (4, _der(0x04, sgx.fmspc)),
        (5, _der(0x0A, bytes([sgx.sgx_type]))),
    ]
    if sgx.piid is not None:
        flags = (sgx.dynamic_platform, sgx.cached_keys, sgx.smt_enabled)
        configuration = [(n, _der(0x01, b"\xff" if flag else b"\x00")) for n, flag in enumerate(flags, 1)]
        entries += [(6, _der(0x04, sgx.piid)), (7, _entries(configuration, b"\x07"))]
    return _entries(entries, b"")


def _entries(entries: Iterable[tuple[int, bytes]], path: bytes) -> bytes:
    prefix = bytes.fromhex("2a864886f84d010d01") + path
    return _der(0x30, b"".join(_der(0x30, _der(0x06, prefix + bytes([n])) + value) for n, value in entries))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(digits)]) + digits + content


def _unsigned(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _field(value: Value, size: int, name: str) -> bytes:
    data = value.to_bytes(size, "little") if isinstance(value, int) else value
    if len(data) != size:
        raise ValueError(f"{name}: {len(data)} bytes, want {size}")
    return data


def _name(common: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, common),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
    ])  # fmt: skip


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, content_commitment=not ca, key_cert_sign=ca, crl_sign=ca, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip

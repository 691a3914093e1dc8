"""A chip maker that looks like AMD: ARK, ASK, ASVK, VCEK, VLEK and reports, each knob of which can be turned wrong.

    world = FakeAmdPki()                                  everything right: a Genoa guest, report version 3
    world = FakeAmdPki(ask=Ca(path_length=1))             one knob
    world = FakeAmdPki(report={"vmpl": 0xFFFFFFFF})       one field, signed by the chip
    world.verify()                                        claims, or the error

Keys are made once per process; RSA-2048 stands for AMD's RSA-4096. ``cryptography`` cannot issue serial number 0, so fake
leaves carry 1; the vectors hold the real thing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.cert_table import ARK, ASK, VCEK, VLEK, CertEntry, build_cert_table
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import verify_snp
from policy.claims import VerifiedClaims
from policy.snp import SigningKey, TcbVersion
from policy.vocab import SnpProduct

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ISSUED = datetime(2025, 1, 1, tzinfo=UTC)
EXPIRES = datetime(2032, 1, 1, tzinfo=UTC)
CHIP = bytes(range(1, 65))
ARC = "1.3.6.1.4.1.3704.1"
CPUID = {
    SnpProduct.MILAN: (0x19, 0x01, 1),
    SnpProduct.GENOA: (0x19, 0x11, 1),
    SnpProduct.TURIN: (0x1A, 0x02, 1),
}
OFFSETS: dict[str, tuple[int, int]] = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "vmpl": (0x030, 4),
    "signature_algo": (0x034, 4),
    "current_tcb": (0x038, 8),
    "platform_info": (0x040, 8),
    "key_info": (0x048, 4),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "reported_tcb": (0x180, 8),
    "cpuid_fam_id": (0x188, 1),
    "cpuid_mod_id": (0x189, 1),
    "cpuid_step": (0x18A, 1),
    "chip_id": (0x1A0, 64),
    "committed_tcb": (0x1E0, 8),
    "current_build": (0x1E8, 1),
    "current_minor": (0x1E9, 1),
    "current_major": (0x1EA, 1),
    "committed_build": (0x1EC, 1),
    "committed_minor": (0x1ED, 1),
    "committed_major": (0x1EE, 1),
    "launch_tcb": (0x1F0, 8),
    "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8),
}
"""Every field of the signed part: offset and size."""

PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One RSA key per name and process."""
    return rsa.generate_private_key(65537, 2048)


def ec_key(name: str, curve: str = "secp384r1") -> ec.EllipticCurvePrivateKey:
    """One EC key per name, curve and process."""
    return _ec_key(name, curve)


@cache
def _ec_key(name: str, curve: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key({"secp384r1": ec.SECP384R1(), "secp256r1": ec.SECP256R1()}[curve])


@dataclass(frozen=True)
class Ca:
    """Knobs of a CA certificate; ``None`` means the right value."""

    cn: str | None = None
    issuer_cn: str | None = None
    key: str | None = None
    signer: str | None = None
    ca: bool = True
    path_length: int | str | None = "right"
    key_cert_sign: bool = True
    crl_sign: bool = True
    critical: bool = True
    not_before: datetime = ISSUED
    not_after: datetime = EXPIRES
    serial: int | None = None
    padding: padding.AsymmetricPadding = field(default_factory=lambda: PSS)
    hash: hashes.HashAlgorithm = field(default_factory=hashes.SHA384)
    extra: Sequence[x509.ExtensionType] = ()
    extra_critical: bool = True
    basic_constraints: bool = True
    key_usage: bool = True


@dataclass(frozen=True)
class Leaf:
    """Knobs of a VCEK or VLEK."""

    cn: str | None = None
    issuer_cn: str | None = None
    kind: SigningKey | None = None
    key: str = "leaf"
    curve: str = "secp384r1"
    signer: str | None = None
    tcb: TcbVersion | None = None
    hwid: bytes | None = None
    csp_id: str | None = None
    product_name: str | None = None
    drop: Sequence[str] = ()
    replace: Mapping[str, bytes] = field(default_factory=dict)
    not_before: datetime = ISSUED
    not_after: datetime = EXPIRES
    padding: padding.AsymmetricPadding = field(default_factory=lambda: PSS)
    hash: hashes.HashAlgorithm = field(default_factory=hashes.SHA384)
    extra: Sequence[x509.ExtensionType] = ()


@dataclass(frozen=True)
class FakeAmdPki:
    """One chip, its chain, and one report. Equal knobs give equal certificates except for signatures."""

    product: SnpProduct = SnpProduct.GENOA
    kind: SigningKey = SigningKey.VCEK
    ark: Ca = field(default_factory=Ca)
    ask: Ca = field(default_factory=Ca)
    leaf: Leaf = field(default_factory=Leaf)
    report: Mapping[str, int | bytes] = field(default_factory=dict)
    signed_with: str | None = None
    """Name of the EC key that signs the report; the leaf's when ``None``."""

    def with_(self, **changes: object) -> FakeAmdPki:
        """The same world with other knobs."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def tcb(self) -> TcbVersion:
        """The chip's TCB."""
        return TcbVersion(10, 0, 24, 84, fmc=1 if self.product is SnpProduct.TURIN else None)

    @property
    def chip_id(self) -> bytes:
        """CHIP_ID as the report has it."""
        if self.kind is SigningKey.VLEK:
            return bytes(64)
        return CHIP[:8] + bytes(56) if self.product is SnpProduct.TURIN else CHIP

    @property
    def _intermediate_cn(self) -> str:
        return ("SEV-VLEK-" if self.kind is SigningKey.VLEK else "SEV-") + self.product.value

    @cached_property
    def ark_der(self) -> bytes:
        """The root, self-issued."""
        cn = self.ark.cn or f"ARK-{self.product.value}"
        key = self.ark.key or f"ark-{self.product.value}"
        return _issue_ca(self.ark, cn, self.ark.issuer_cn or cn, key, self.ark.signer or key, None)

    @cached_property
    def ask_der(self) -> bytes:
        """The ASK or ASVK."""
        issuer = self.ask.issuer_cn or self.ark.cn or f"ARK-{self.product.value}"
        signer = self.ask.signer or self.ark.key or f"ark-{self.product.value}"
        cn = self.ask.cn or self._intermediate_cn
        return _issue_ca(self.ask, cn, issuer, self.ask.key or self._intermediate_cn, signer, 0)

    @cached_property
    def leaf_der(self) -> bytes:
        """The VCEK or VLEK."""
        spec, kind = self.leaf, self.leaf.kind or self.kind
        cn = spec.cn or f"SEV-{kind.name}"
        issuer = spec.issuer_cn or self.ask.cn or self._intermediate_cn
        public = ec_key(spec.key, spec.curve).public_key()
        builder = _builder(cn, issuer, public, spec.not_before, spec.not_after, 1)
        for oid, value in self._leaf_extensions(kind).items():
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(unknown, critical=False)
        for extension in spec.extra:
            builder = builder.add_extension(extension, critical=True)
        return _sign(builder, spec.signer or self.ask.key or self._intermediate_cn, spec.hash, spec.padding)

    def _leaf_extensions(self, kind: SigningKey) -> dict[str, bytes]:
        spec, turin = self.leaf, self.product is SnpProduct.TURIN
        tcb = spec.tcb or self.tcb
        name = spec.product_name or self.product.value
        values = {
            f"{ARC}.1": integer(int(turin)),
            f"{ARC}.2": b"\x16" + bytes([len(name)]) + name.encode(),
            f"{ARC}.3.1": integer(tcb.bootloader),
            f"{ARC}.3.2": integer(tcb.tee),
            f"{ARC}.3.3": integer(tcb.snp),
            f"{ARC}.3.5": integer(0),
            f"{ARC}.3.6": integer(0),
            f"{ARC}.3.7": integer(0),
            f"{ARC}.3.8": integer(tcb.microcode),
        }
        values |= {f"{ARC}.3.9": integer(tcb.fmc or 0)} if turin else {f"{ARC}.3.4": integer(0)}
        if kind is SigningKey.VCEK:
            values[f"{ARC}.4"] = spec.hwid or (CHIP[:8] if turin else CHIP)
        else:
            csp = spec.csp_id or "CN=cc-nowhere.example"
            values[f"{ARC}.5"] = b"\x16" + bytes([len(csp)]) + csp.encode()
        return {oid: value for oid, value in (values | spec.replace).items() if oid not in spec.drop}

    @property
    def fields(self) -> dict[str, int | bytes]:
        """The report's fields."""
        family, model, step = CPUID[self.product]
        tcb = self.tcb.to_bytes()
        right: dict[str, int | bytes] = {
            "version": 3, "policy": 0x30000, "signature_algo": 1, "current_tcb": tcb, "platform_info": 0x25,
            "key_info": self.kind.value << 2, "report_data": b"\x5a" * 64, "measurement": b"\x11" * 48,
            "report_id": b"\x44" * 32, "report_id_ma": b"\xff" * 32, "reported_tcb": tcb, "cpuid_fam_id": family,
            "cpuid_mod_id": model, "cpuid_step": step, "chip_id": self.chip_id, "committed_tcb": tcb,
            "current_build": 40, "current_minor": 55, "current_major": 1, "committed_build": 40,
            "committed_minor": 55, "committed_major": 1, "launch_tcb": tcb,
        }  # fmt: skip
        return right | dict(self.report)

    @cached_property
    def raw(self) -> bytes:
        """The signed report, 1184 bytes."""
        return sign_report(report_body(self.fields), ec_key(self.signed_with or self.leaf.key, self.leaf.curve))

    @property
    def certificates(self) -> tuple[bytes, bytes, bytes]:
        """Leaf, intermediate, root (DER)."""
        return self.leaf_der, self.ask_der, self.ark_der

    @property
    def anchors(self) -> TrustAnchors:
        """Trust in this world's root, and in no other."""
        return TrustAnchors.test_only(self.ark_der)

    @property
    def extended(self) -> bytes:
        """Report and certificate table as a host returns them."""
        leaf = VLEK if self.kind is SigningKey.VLEK else VCEK
        return self.raw + build_cert_table(
            [CertEntry(leaf, self.leaf_der), CertEntry(ASK, self.ask_der), CertEntry(ARK, self.ark_der)]
        )

    def crl(
        self,
        *,
        revoked: Sequence[int] = (),
        this_update: datetime = datetime(2026, 5, 1, tzinfo=UTC),
        next_update: datetime = datetime(2026, 7, 1, tzinfo=UTC),
        signer: str | None = None,
    ) -> bytes:
        """A CRL of the root."""
        builder = x509.CertificateRevocationListBuilder(
            name(self.ark.cn or f"ARK-{self.product.value}"), this_update, next_update
        )
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, this_update).build()
            builder = builder.add_revoked_certificate(entry)
        key = rsa_key(signer or self.ark.key or f"ark-{self.product.value}")
        return builder.sign(key, hashes.SHA384(), rsa_padding=PSS).public_bytes(Encoding.DER)

    def inputs(
        self,
        *,
        now: datetime = NOW,
        crls: Sequence[bytes] = (),
        expected_report_data: bytes | None = None,
        anchors: TrustAnchors | None = None,
        extra: Sequence[bytes] = (),
    ) -> Inputs:
        """What a verifier is given: the report with this world's certificates (and ``extra`` ones)."""
        certificates = (*extra, *self.certificates)
        return Inputs(self.raw, certificates, tuple(crls), anchors or self.anchors, now, expected_report_data)

    def verify(
        self,
        *,
        now: datetime = NOW,
        crls: Sequence[bytes] = (),
        expected_report_data: bytes | None = None,
        anchors: TrustAnchors | None = None,
        extra: Sequence[bytes] = (),
    ) -> VerifiedClaims:
        """Verify the report."""
        return self.inputs(
            now=now, crls=crls, expected_report_data=expected_report_data, anchors=anchors, extra=extra
        ).verify()


@dataclass(frozen=True)
class Inputs:
    """Everything one verification depends on."""

    report: bytes
    certificates: tuple[bytes, ...]
    crls: tuple[bytes, ...]
    anchors: TrustAnchors
    now: datetime
    expected_report_data: bytes | None

    def verify(self) -> VerifiedClaims:
        """The claims, or the error."""
        pool = EndorsementSet.from_der(self.certificates, self.crls, with_evidence=True)
        return verify_snp(
            SnpReport.parse(self.report), pool, anchors=self.anchors, now=self.now,
            expected_report_data=self.expected_report_data,
        )  # fmt: skip


def report_body(fields: Mapping[str, int | bytes]) -> bytes:
    """The 672 signed bytes."""
    body = bytearray(0x2A0)
    for field_name, value in fields.items():
        offset, size = OFFSETS[field_name]
        data = value.to_bytes(size, "little") if isinstance(value, int) else value
        body[offset : offset + size] = data
    return bytes(body)


def sign_report(body: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Body and signature, r and s little-endian in 72 bytes each."""
    r, s = decode_dss_signature(key.sign(body, ec.ECDSA(hashes.SHA384())))
    return body + r.to_bytes(72, "little") + s.to_bytes(72, "little") + bytes(368)


def integer(value: int) -> bytes:
    """DER INTEGER of a small non-negative value."""
    return b"\x02\x01" + bytes([value]) if value < 0x80 else b"\x02\x02" + struct.pack(">H", value)


def name(common: str) -> x509.Name:
    """A name as AMD writes it."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Advanced Micro Devices"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    cn: str, issuer: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, start: datetime, end: datetime, serial: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name(cn))
        .issuer_name(name(issuer))
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _issue_ca(spec: Ca, cn: str, issuer: str, key: str, signer: str, path_length: int | None) -> bytes:
    serial = spec.serial or int.from_bytes(hashlib.sha256(cn.encode()).digest()[:4], "big") | 1
    builder = _builder(cn, issuer, rsa_key(key).public_key(), spec.not_before, spec.not_after, serial)
    length = path_length if spec.path_length == "right" else spec.path_length
    if spec.basic_constraints:
        constraints = x509.BasicConstraints(spec.ca, length if spec.ca else None)  # type: ignore[arg-type]
        builder = builder.add_extension(constraints, critical=spec.critical)
    if spec.key_usage:
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=spec.key_cert_sign, crl_sign=spec.crl_sign, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=spec.critical)
    for extension in spec.extra:
        builder = builder.add_extension(extension, critical=spec.extra_critical)
    return _sign(builder, signer, spec.hash, spec.padding)


def _sign(
    builder: x509.CertificateBuilder, signer: str, algorithm: hashes.HashAlgorithm, pad: padding.AsymmetricPadding
) -> bytes:
    certificate = builder.sign(rsa_key(signer), algorithm, rsa_padding=pad)  # type: ignore[arg-type]
    return certificate.public_bytes(Encoding.DER)

"""Certificates and lists of Intel's PKI: read completely, believed by nobody yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from attest.emulator.td_pki import Issued, encode_sgx_extension, issue, revocation_list
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import (
    IntelCertificate,
    IntelCrl,
    IntelRole,
    UnrelatedIntelCertificate,
)
from attest.evidence.pem import parse_pem
from attest.evidence.sgx_extension import SGX_EXTENSION
from attest.evidence.x509_reading import MAX_CERTIFICATE, MAX_CRL
from tests.fakes.intel_pki import CURRENT, LIFE, SGX, FakeIntelPki, key_of

WORLD = FakeIntelPki()
ROLES = ("ROOT", "PLATFORM_CA", "PROCESSOR_CA", "PCK", "TCB_SIGNING")


def builder(name: str | x509.Name = IntelRole.TCB_SIGNING.value, key: Any = None) -> x509.CertificateBuilder:
    """A certificate of this (common) name without any extension."""
    subject = name if isinstance(name, x509.Name) else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key((key or key_of("PCK")).public_key())
        .serial_number(5)
        .not_valid_before(LIFE.start)
        .not_valid_after(LIFE.end)
    )


def signed(found: x509.CertificateBuilder, digest: hashes.SHA256 | hashes.SHA384 | None = None) -> bytes:
    certificate = found.sign(key_of("ROOT"), digest or hashes.SHA256())
    return certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_is_read(role: str) -> None:
    der = WORLD.issued(role).der
    found = IntelCertificate.parse(der)
    authority = role not in ("PCK", "TCB_SIGNING")
    assert found.role is IntelRole[role]
    assert found.name == IntelRole[role].value
    assert found.der == der
    assert found.is_ca is authority
    assert found.path_length == ({"ROOT": 1}.get(role, 0) if authority else None)
    assert found.usage == ({"key_cert_sign", "crl_sign"} if authority else {"digital_signature", "content_commitment"})
    assert (found.not_before, found.not_after) == LIFE
    assert found.sgx == (SGX if role == "PCK" else None)
    assert found.spki_sha256 == WORLD.issued(role).spki_sha256


def test_a_name_that_belongs_nowhere_is_unrelated() -> None:
    for name in ("SEV-Genoa", "intel sgx root ca", "Intel SGX Root CA "):
        with pytest.raises(UnrelatedIntelCertificate, match="belongs to no place"):
            IntelCertificate.parse(signed(builder(name)))


def _two_names() -> bytes:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, role.value) for role in (IntelRole.ROOT, IntelRole.TCB_SIGNING)]
    )
    found = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key_of("PCK").public_key())
    return signed(found.serial_number(1).not_valid_before(LIFE.start).not_valid_after(LIFE.end))


def test_two_common_names_are_unrelated() -> None:
    with pytest.raises(UnrelatedIntelCertificate):
        IntelCertificate.parse(_two_names())


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="not ECDSA P-256"):
        IntelCertificate.parse(signed(builder(key=ec.generate_private_key(ec.SECP384R1()))))


def test_another_hash_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="want ECDSA with SHA-256"):
        IntelCertificate.parse(signed(builder(), hashes.SHA384()))


def test_an_unknown_critical_extension_is_refused() -> None:
    constraint = x509.NameConstraints([x509.DNSName("example")], None)
    with pytest.raises(EvidenceMalformed, match=r"critical extension 2\.5\.29\.30"):
        IntelCertificate.parse(signed(builder().add_extension(constraint, critical=True)))


def test_a_critical_sgx_extension_is_refused() -> None:
    value = x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION), encode_sgx_extension(SGX))
    with pytest.raises(EvidenceMalformed, match="critical extension"):
        IntelCertificate.parse(signed(builder(IntelRole.PCK.value).add_extension(value, critical=True)))


@pytest.mark.parametrize("value", [x509.BasicConstraints(ca=True, path_length=0), x509.BasicConstraints(False, None)])
def test_constraints_that_are_not_critical_are_refused(value: x509.BasicConstraints) -> None:
    with pytest.raises(EvidenceMalformed, match="not critical"):
        IntelCertificate.parse(signed(builder().add_extension(value, critical=False)))


def test_a_pck_certificate_without_its_extension_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="SGX extension"):
        IntelCertificate.parse(signed(builder(IntelRole.PCK.value)))


@pytest.mark.parametrize("role", [role for role in IntelRole if role is not IntelRole.PCK])
def test_an_sgx_extension_elsewhere_is_refused(role: IntelRole) -> None:
    with pytest.raises(EvidenceMalformed, match="SGX extension"):
        IntelCertificate.parse(issue(role, key_of("PCK"), None, LIFE, 1, SGX).der)


def test_a_negative_serial_number_is_refused() -> None:
    good = signed(builder())
    with pytest.raises(EvidenceMalformed, match="serial number is negative"):
        IntelCertificate.parse(good.replace(b"\x02\x01\x05\x30", b"\x02\x01\x85\x30", 1))


@pytest.mark.parametrize("place", [0, 1])
def test_a_common_name_is_found_wherever_it_stands(place: int) -> None:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Intel Corporation")]
    attributes.insert(place, x509.NameAttribute(NameOID.COMMON_NAME, IntelRole.TCB_SIGNING.value))
    assert IntelCertificate.parse(signed(builder(x509.Name(attributes)))).role is IntelRole.TCB_SIGNING


@pytest.mark.parametrize(
    "data", [b"", b"\x30\0", WORLD.root_der[:-1], WORLD.root_der + b"\0", bytes(MAX_CERTIFICATE + 1)]
)
def test_what_is_not_one_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="certificate"):
        IntelCertificate.parse(data)


def test_a_list_is_read() -> None:
    der = FakeIntelPki(crls={"PLATFORM_CA": {"revoked": ("PCK",), "number": 9}}).crl("PLATFORM_CA")
    found = IntelCrl.parse(der)
    assert found.issuer_role is IntelRole.PLATFORM_CA
    assert (found.this_update, found.next_update) == CURRENT
    assert found.number == 9
    serial = WORLD.issued("PCK").certificate.serial_number
    assert [found.revokes(number) for number in (serial - 1, serial, serial + 1, 0, 1 << 160)] == [
        False, True, False, False, False,
    ]  # fmt: skip


def test_a_list_of_somebody_who_is_no_authority_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="want a CA"):
        IntelCrl.parse(revocation_list(WORLD.issued("TCB_SIGNING"), CURRENT, 1).public_bytes(Encoding.DER))


def _list(issuer: Issued) -> x509.CertificateRevocationListBuilder:
    found = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    return found.last_update(CURRENT.start).next_update(CURRENT.end)


def test_a_list_without_a_number_is_refused() -> None:
    root = WORLD.issued("ROOT")
    with pytest.raises(EvidenceMalformed, match="no number"):
        IntelCrl.parse(_list(root).sign(root.key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_a_list_of_some_certificates_only_is_refused() -> None:
    root = WORLD.issued("ROOT")
    scope = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    found = _list(root).add_extension(x509.CRLNumber(1), critical=False).add_extension(scope, critical=True)
    with pytest.raises(EvidenceMalformed, match="complete list"):
        IntelCrl.parse(found.sign(root.key, hashes.SHA256()).public_bytes(Encoding.DER))


def test_a_delta_list_is_refused() -> None:
    root = WORLD.issued("ROOT")
    found = _list(root).add_extension(x509.CRLNumber(2), critical=False)
    found = found.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    with pytest.raises(EvidenceMalformed, match="complete list"):
        IntelCrl.parse(found.sign(root.key, hashes.SHA256()).public_bytes(Encoding.DER))


@pytest.mark.parametrize("data", [b"", WORLD.crl("ROOT")[:-1], WORLD.crl("ROOT") + b"\0", bytes(MAX_CRL + 1)])
def test_what_is_not_one_list_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceMalformed, match="CRL"):
        IntelCrl.parse(data)


def test_every_real_chain_and_list_is_read(vectors: Path) -> None:
    folder = vectors / "tdx"
    entries = json.loads((folder / "manifest.json").read_text())["entries"]
    roles = set()
    for entry in entries:
        data = (folder / entry["file"]).read_bytes()
        if entry["kind"] == "cert_chain":
            roles |= {IntelCertificate.parse(block.data).role for block in parse_pem(data)}
        elif entry["kind"] == "crl":
            assert IntelCrl.parse(data).number >= 1
    assert roles == {IntelRole.ROOT, IntelRole.PLATFORM_CA, IntelRole.PROCESSOR_CA, IntelRole.TCB_SIGNING}

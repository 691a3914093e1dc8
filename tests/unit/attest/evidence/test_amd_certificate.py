"""What AMD's certificates must be, beyond what the library that reads them demands."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.x509_reading import common_names
from tests.fakes.amd_pki import FakeAmdPki
from tests.unit.attest.verifier.vector_files import listed, read


def test_a_signature_with_unused_bits_is_refused() -> None:
    """They are in no signature, and a reader that skips them lets a byte change unnoticed."""
    for der in (FakeAmdPki().leaf_der, FakeAmdPki().ask_der, FakeAmdPki().ark_der):
        size = len(AmdCertificate.parse(der).parsed.signature)
        for unused in range(1, 8):
            changed = bytearray(der)
            changed[-size - 1] = unused
            with pytest.raises(EvidenceMalformed):
                AmdCertificate.parse(bytes(changed))


UTF8, PRINTABLE, BMP, T61, UNIVERSAL = 0x0C, 0x13, 0x1E, 0x14, 0x1C


def name(*common: str, kind: int = UTF8) -> bytes:
    """A Name with these common names after a relative name of two attributes; ``kind`` is the tag of their strings."""
    pair = [
        x509.NameAttribute(NameOID.LOCALITY_NAME, "Santa Clara"),
        x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "CA"),
    ]
    single = [[x509.NameAttribute(NameOID.COMMON_NAME, text)] for text in common]
    der = x509.Name([x509.RelativeDistinguishedName(one) for one in (pair, *single)]).public_bytes()
    for text in common:
        der = der.replace(bytes([UTF8, len(text)]) + text.encode(), bytes([kind, len(text)]) + text.encode())
    return der


@pytest.mark.parametrize("kind", [UTF8, PRINTABLE])
def test_common_names_are_read_out_of_a_name(kind: int) -> None:
    for texts in ((), ("ARK-Milan",), ("SEV-Genoa", "ARK-Genoa"), ("x" * 60,)):
        assert common_names(name(*texts, kind=kind), "name") == list(texts)


@pytest.mark.parametrize("kind", [BMP, T61, UNIVERSAL])
def test_a_common_name_of_a_rare_kind_is_left_to_the_library(kind: int) -> None:
    assert common_names(name("ARK-Milan", kind=kind), "name") is None


@pytest.mark.parametrize(
    "broken", [b"\x13\x09ARK-Mil\xe4n", b"\x0c\x09ARK-Mil\xe4n", b"\x0c\x08ARK-Milan", b"\x0c\x0aARK-Milan"]
)
def test_a_common_name_that_is_not_text_is_refused(broken: bytes) -> None:
    good = b"\x0c\x09ARK-Milan"
    with pytest.raises((EvidenceMalformed, ValueError)):
        common_names(name("ARK-Milan").replace(good, broken), "name")


def test_names_of_real_certificates_are_read_as_the_library_reads_them(vectors: Path) -> None:
    files = [entry["file"] for entry in listed(vectors, "ark", "ask", "asvk", "vcek", "vlek", "forged_ark")]
    for der in read(vectors, files):
        certificate = AmdCertificate.parse(der)
        for own, raw, theirs in (
            (certificate.subject_cn, certificate.subject_name, certificate.parsed.subject),
            (certificate.issuer_cn, certificate.issuer_name, certificate.parsed.issuer),
        ):
            assert [own] == [one.value for one in theirs.get_attributes_for_oid(NameOID.COMMON_NAME)]
            assert raw == theirs.public_bytes()
        assert certificate.signed == certificate.parsed.tbs_certificate_bytes

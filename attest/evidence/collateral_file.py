"""One file of a collateral folder: which AMD certificates and lists it holds, by content.

Read are PEM (bundles, CRLF, CRLs), DER (one or several laid end to end), certificate tables and extended reports, KBS
evidence, bundles of ``attest collateral``, JSON of any make with certificates in it (such as that of Azure's THIM
service), and each of these in hexadecimal or base64. What belongs to another vendor is passed over; what looks like a
certificate and does not parse is kept as an error, to be named if nothing better is found.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.bundle import MAX_BUNDLE, looks_like_bundle, parse_bundle
from attest.evidence.cert_table import NAMES, looks_like_cert_table, parse_cert_table
from attest.evidence.der import split_sequences
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.found_json import find_endorsements
from attest.evidence.pem import CERTIFICATE, CRL, looks_like_pem, parse_pem
from attest.evidence.recognise import MAX_EVIDENCE, parse_snp_evidence
from policy.spelled import spelled_bytes
from policy.strictjson import strict_json

MAX_FILE = max(MAX_EVIDENCE, MAX_BUNDLE)
_SEQUENCE_LONG = (b"\x30\x81", b"\x30\x82", b"\x30\x83")
MAX_DAMAGED = 100
"""A file with more damaged things than this is not read further: errors are larger than what they are about."""


@dataclass(frozen=True, slots=True)
class CollateralFile:
    """What was found, unverified; ``damaged`` are errors of things that look like certificates."""

    certificates: tuple[AmdCertificate, ...] = ()
    crls: tuple[AmdCrl, ...] = ()
    damaged: tuple[EvidenceMalformed, ...] = ()


def read_collateral_file(data: bytes) -> CollateralFile:
    """Never raises: a folder may hold anything."""
    try:
        return _parse_all(_blobs(data))
    except EvidenceMalformed as exc:
        return CollateralFile(damaged=(exc,))


def _blobs(data: bytes) -> Iterable[bytes]:
    """DER values that may be certificates or lists; nothing for a file that is neither."""
    if looks_like_pem(data) and data.lstrip()[:1] != b"{":
        return [block.data for block in parse_pem(data) if block.label in (CERTIFICATE, CRL)]
    if looks_like_bundle(data):
        return [part for item in parse_bundle(data) for part in item.parts if not part.startswith(b"{")]
    if data[:2] in _SEQUENCE_LONG:
        return split_sequences(data, "certificates")
    if looks_like_cert_table(data):
        return [der for entry in parse_cert_table(data) if entry.guid in NAMES for der in entry.ders]
    try:
        evidence = parse_snp_evidence(data)
    except EvidenceMalformed:
        return _spelled(data)
    return [*evidence.certificates, *evidence.crls]


def _spelled(data: bytes) -> Iterable[bytes]:
    """Of JSON of any make, and of text that spells one of the above."""
    if data.lstrip()[:1] == b"{":
        try:
            value = strict_json(data, "collateral", max_bytes=MAX_FILE, error=EvidenceMalformed)
        except EvidenceMalformed:
            if not looks_like_pem(data):
                return []
            raise
        return find_endorsements(value)
    plain = spelled_bytes(data)
    return [] if plain is None or spelled_bytes(plain) is not None else _blobs(plain)


def _parse_all(blobs: Iterable[bytes]) -> CollateralFile:
    certificates: list[AmdCertificate] = []
    crls: list[AmdCrl] = []
    damaged: list[EvidenceMalformed] = []
    for blob in blobs:
        if len(damaged) > MAX_DAMAGED:
            break
        try:
            certificates.append(AmdCertificate.parse(blob))
            continue
        except UnrelatedCertificate:
            continue
        except EvidenceMalformed as exc:
            first = exc
        try:
            crls.append(AmdCrl.parse(blob))
        except UnrelatedCertificate:
            continue
        except EvidenceMalformed:
            damaged.append(first)
    return CollateralFile(tuple(certificates), tuple(crls), tuple(damaged))

"""The one SNP report inside bytes of no known kind: CBOR, other projects' protobuf or ASN.1, an archive's member.

A report is told from other bytes by what its structure fixes: a version, the signature's algorithm, more than 500
bytes that are zero, and a policy with bit 17 set. One spelled in go-sev-guest's message counts as well. AMD's
certificates are told by their owner's name inside a DER frame, or by PEM. Two different reports are refused. Source:
AMD 56860, table "ATTESTATION_REPORT Structure".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from attest.evidence.amd_certificate import AmdCertificate, AmdCrl
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.pem import CERTIFICATE, CRL, parse_pem
from attest.evidence.snp_proto import HEAD, SnpProto, decode_leading
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from policy.snp import GuestPolicy

OWNER = b"Advanced Micro Devices"
_BEGINNING = re.compile(rb"(?=[\x01-\x05]\0\0\0.{48}\x01\0\0\0)", re.DOTALL)
_MOST_BEGINNINGS = 4096
_MOST_MESSAGES = 256
_MOST_MESSAGE = 64 << 10
_FRAME = b"\x30\x82"
_BEFORE_OWNER = 300
"""An issuer's name stands nearer than this to where its certificate or list begins."""
_MOST_OWNERS = 256


def find_report(data: bytes) -> bytes | None:
    """The 1184 bytes of the only report in ``data``, ``None`` without one; :class:`EvidenceMalformed` for two."""
    found: set[bytes] = set()
    for raw in (*_runs(data), *(message.raw for message in _messages(data))):
        found.add(raw)
        if len(found) > 1:
            raise EvidenceMalformed("evidence: of no known kind, and more than one SNP report in it, want one")
    return next(iter(found), None)


def _runs(data: bytes) -> Iterator[bytes]:
    for match in islice(_BEGINNING.finditer(data), _MOST_BEGINNINGS):
        raw = data[match.start() : match.start() + REPORT_SIZE]
        if _is_report(raw):
            yield raw


def _messages(data: bytes) -> Iterator[SnpProto]:
    """go-sev-guest's messages inside of another, such as go-tpm-tools' attestation."""
    for match in islice(HEAD.finditer(data), _MOST_MESSAGES):
        try:
            message = decode_leading(data[match.start() : match.start() + _MOST_MESSAGE])
        except EvidenceMalformed:
            continue
        if _is_report(message.raw):
            yield message


def _is_report(raw: bytes) -> bool:
    try:
        return SnpReport.parse(raw).policy.bit(GuestPolicy.RESERVED_ONE)
    except EvidenceMalformed:
        return False


def find_endorsements(data: bytes) -> tuple[bytes, ...]:
    """DER of AMD's certificates and lists in ``data``, each once, in the order met."""
    return tuple(dict.fromkeys((*_armoured(data), *_framed(data))))


def _armoured(data: bytes) -> list[bytes]:
    try:
        blocks = parse_pem(data)
    except EvidenceMalformed:
        return []
    return [block.data for block in blocks if block.label in (CERTIFICATE, CRL) and OWNER in block.data]


def _framed(data: bytes) -> Iterator[bytes]:
    end = at = 0
    for _ in range(_MOST_OWNERS):
        at = data.find(OWNER, max(at, end))
        if at < 0:
            return
        der = _frame_around(data, at, end)
        if der is not None:
            yield der
            end = data.index(der, end) + len(der)
        at += 1


def _frame_around(data: bytes, owner: int, earliest: int) -> bytes | None:
    """The first frame before the owner's name that is one of AMD's certificates or lists."""
    start = data.find(_FRAME, max(owner - _BEFORE_OWNER, earliest), owner)
    while start >= 0:
        der = data[start : start + 4 + int.from_bytes(data[start + 2 : start + 4], "big")]
        if _is_endorsement(der):
            return der
        start = data.find(_FRAME, start + 1, owner)
    return None


def _is_endorsement(der: bytes) -> bool:
    for parse in (AmdCertificate.parse, AmdCrl.parse):
        try:
            parse(der)
        except EvidenceMalformed:
            continue
        return True
    return False

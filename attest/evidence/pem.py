"""PEM armour (RFC 7468): certificates and CRLs, alone or bundled, with either line ending."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed

CERTIFICATE, CRL = "CERTIFICATE", "X509 CRL"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*?)-----END \1-----")
_BEGIN = b"-----BEGIN "


class PemBlock(NamedTuple):
    """One armoured block: its label and what it holds (DER for the labels used here)."""

    label: str
    data: bytes


def parse_pem(data: bytes) -> tuple[PemBlock, ...]:
    """All blocks of a file, text between them ignored; raises :class:`EvidenceMalformed` for a damaged block."""
    blocks = [_block(match) for match in _BLOCK.finditer(data)]
    if len(blocks) != data.count(_BEGIN):
        raise EvidenceMalformed(f"PEM: {data.count(_BEGIN)} blocks begin, {len(blocks)} are complete")
    return tuple(blocks)


def _block(match: re.Match[bytes]) -> PemBlock:
    label = match[1].decode("ascii")
    try:
        return PemBlock(label, base64.b64decode(b"".join(match[2].split()), validate=True))
    except binascii.Error as exc:
        raise EvidenceMalformed(f"PEM: block {label} is not base64: {exc}") from None


def looks_like_pem(data: bytes) -> bool:
    """Whether an armoured block begins somewhere in ``data``, and ``data`` is text (quotes hold PEM between binary)."""
    return _BEGIN in data and b"\0" not in data

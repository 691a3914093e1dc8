"""PEM armour (RFC 7468): certificates and CRLs, alone or bundled, with either line ending."""

from __future__ import annotations

import binascii
import re
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed

CERTIFICATE, CRL = "CERTIFICATE", "X509 CRL"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----([A-Za-z0-9+/=\s]*?)-----END \1-----")
_LINE_ENDS = re.compile(rb"(?:\r?\n)*")
_STRICT_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END \1-----(?:\r?\n)*"
)
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


def parse_pem_strictly(data: bytes, what: str, *, max_blocks: int) -> tuple[PemBlock, ...]:
    """One to ``max_blocks`` blocks with nothing but line ends between them, each in the one way its bytes are spelled.

    For PEM that a signature ought to vouch for but does not cover: no byte can change without changing what is read
    or being refused. Raises :class:`EvidenceMalformed`; ``what`` begins the message.
    """
    blocks: list[PemBlock] = []
    offset = _LINE_ENDS.match(data).end()  # type: ignore[union-attr]  # matches nothing too
    while offset < len(data):
        match = _STRICT_BLOCK.match(data, offset)
        if match is None:
            raise EvidenceMalformed(f"{what}: at 0x{offset:X}: got {data[offset : offset + 16]!r}, want a PEM block")
        if len(blocks) == max_blocks:
            raise EvidenceMalformed(f"{what}: more than {max_blocks} PEM blocks")
        block = _block(match)
        if binascii.b2a_base64(block.data, newline=False) != match[2].translate(None, b"\r\n"):
            raise EvidenceMalformed(f"{what}: PEM block at 0x{offset:X} has stray bits in its last digit")
        blocks.append(block)
        offset = match.end()
    if not blocks:
        raise EvidenceMalformed(f"{what}: no PEM block in {len(data)} bytes")
    return tuple(blocks)


def _block(match: re.Match[bytes]) -> PemBlock:
    label = match[1].decode("ascii")
    try:
        return PemBlock(label, binascii.a2b_base64(b"".join(match[2].split()), strict_mode=True))
    except binascii.Error as exc:
        raise EvidenceMalformed(f"PEM: block {label} is not base64: {exc}") from None


def looks_like_pem(data: bytes) -> bool:
    """Whether an armoured block begins somewhere in ``data``, and ``data`` is text (quotes hold PEM between binary);
    zeros after the text, as a chain taken out of a quote has them, do not count.
    """
    return _BEGIN in data and b"\0" not in data.rstrip(b"\0")

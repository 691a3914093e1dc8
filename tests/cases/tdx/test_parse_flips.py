"""No byte of a quote is ignored: a flipped bit is refused, or changes something that verification looks at.

What it changes is what a signature covers, or is a signature or key itself; whether such a quote is then refused is the
verifier's business and tested there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.quote import Quote, parse_quote
from tests.unit.attest.evidence.quotes import PEM, make_quote, qe_material

REAL = ("tdx4-phala-b0c06f", "tdx5-gotdxguest", "sgx3-processor")


def looked_at(quote: Quote) -> tuple[object, ...]:
    """Everything a verifier uses: signed bytes, signatures, keys, certificates."""
    certification = quote.certification
    return (
        quote.signed, quote.signature, quote.attestation_key, quote.qe_report.raw, quote.qe_report_signature,
        quote.qe_auth_data, certification.type, certification.certificates(), certification.identity,
    )  # fmt: skip


def ignored_flips(raw: bytes) -> list[tuple[int, int]]:
    """Byte and bit of every flip that was accepted and changed nothing."""
    original = looked_at(parse_quote(raw))
    ignored = []
    for offset in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[offset] ^= 1 << bit
            try:
                same = looked_at(parse_quote(bytes(flipped))) == original
            except EvidenceMalformed:
                continue
            if same:
                ignored.append((offset, bit))
    return ignored


@pytest.mark.parametrize(
    ("version", "layout", "ending"),
    [
        (3, "sgx", b"\n\0"), (4, "1.0", b"\n\0"), (4, "1.0", b"\n"), (4, "1.0", b""), (4, "1.0", b"\r\n"),
        (5, "1.5", b"\n\0"), (5, "1.5-extended", b"\n"),
    ],
)  # fmt: skip
def test_no_bit_of_a_quote_is_ignored(version: int, layout: str, ending: bytes) -> None:
    chain = PEM + PEM[:-1] + ending
    assert ignored_flips(make_quote(version, layout, material=qe_material(5, chain), tail=bytes(3))) == []


@pytest.mark.parametrize(("kind", "size"), [(1, 36), (2, 276), (3, 404)])
def test_no_bit_of_certification_data_without_certificates_is_ignored(kind: int, size: int) -> None:
    data = (bytes(range(256)) * 2)[:size]
    assert ignored_flips(make_quote(material=qe_material(kind, data))) == []


@pytest.mark.parametrize("name", REAL)
def test_no_bit_of_a_real_quote_is_ignored(vectors: Path, name: str) -> None:
    assert ignored_flips((vectors / "tdx" / "quotes" / f"{name}.bin").read_bytes()) == []

"""Every byte of a quote counts: one quote per version, one bit of each byte flipped, is refused."""

from __future__ import annotations

import pytest

from attest.evidence.quote import parse_quote
from attest.verifier.quote import QuoteVerifier
from policy.errors import CvmError
from tests.fakes.intel_pki import NOW, FakeIntelPki


@pytest.mark.parametrize(("version", "layout"), [(3, "sgx"), (4, "1.0"), (5, "1.5")])
def test_no_byte_of_a_quote_can_change(version: int, layout: str) -> None:
    world = FakeIntelPki(version=version, layout=layout)
    verifier, raw = QuoteVerifier(world.anchors), world.raw + bytes(4)
    verifier.verify(parse_quote(raw), world.collateral, now=NOW, expected_report_data=None)
    accepted = []
    for offset in range(len(raw)):
        flipped = bytearray(raw)
        flipped[offset] ^= 1 << offset % 8
        try:
            verifier.verify(parse_quote(bytes(flipped)), world.collateral, now=NOW, expected_report_data=None)
        except CvmError:
            continue
        accepted.append(offset)
    assert accepted == []

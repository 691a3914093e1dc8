"""What AMD's certificates must be, beyond what the library that reads them demands."""

from __future__ import annotations

import pytest

from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.errors import EvidenceMalformed
from tests.fakes.amd_pki import FakeAmdPki


def test_a_signature_with_unused_bits_is_refused() -> None:
    """They are in no signature, and a reader that skips them lets a byte change unnoticed."""
    for der in (FakeAmdPki().leaf_der, FakeAmdPki().ask_der, FakeAmdPki().ark_der):
        size = len(AmdCertificate.parse(der).parsed.signature)
        for unused in range(1, 8):
            changed = bytearray(der)
            changed[-size - 1] = unused
            with pytest.raises(EvidenceMalformed):
                AmdCertificate.parse(bytes(changed))

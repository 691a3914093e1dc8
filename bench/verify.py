"""Verifying one SNP report against the cost nobody can avoid: one bare P-384 verification.

``ours`` is the whole of :meth:`SnpVerifier.verify` for a parsed report with a remembered chain: look-up by digest,
dates, revocation, TCB, chip id, hash, signature, claims. ``peer`` is ``key.verify`` of ``cryptography`` alone, over the
same digest. Windows are interleaved and counted in CPU time, because machines are shared.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from tests.fakes.amd_pki import NOW, FakeAmdPki

ROUNDS = 15
WINDOW = 0.15
TARGET = 1.15


def run() -> list[dict[str, Any]]:
    """Rows for the table; ``ratio`` is ours divided by the peer's time, so smaller is better."""
    world = FakeAmdPki(report={"version": 5})
    floor = _bare(world)
    rows = [_row("SNP report, parsed, chain remembered", _verify(world, load_with_cryptography), floor, TARGET)]
    rows.append(_row("SNP report, bytes to claims", _verify(world, load_with_cryptography, parse=True), floor, 1.2))
    if HAVE_AWSCRT:
        rows.append(_row("the same with awscrt", _verify(world, load_with_awscrt), floor, 0.65))
    return rows


def _bare(world: FakeAmdPki) -> Callable[[], object]:
    return bare_verification(world.leaf_der, world.raw)


def bare_verification(leaf: bytes, raw: bytes, load: KeyLoader = load_with_cryptography) -> Callable[[], object]:
    """``key.verify`` over the report's digest, everything else prepared."""
    key = load(public_key(leaf))
    report = SnpReport.parse(raw)
    signature = encode_dss_signature(
        int.from_bytes(report.signature_r, "little"), int.from_bytes(report.signature_s, "little")
    )
    digest = hashlib.sha384(report.signed).digest()
    return lambda: key.verify(signature, digest)


def public_key(leaf: bytes) -> bytes:
    """A certificate's key as SubjectPublicKeyInfo (DER)."""
    key = load_der_x509_certificate(leaf).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _verify(world: FakeAmdPki, load: KeyLoader, *, parse: bool = False) -> Callable[[], object]:
    verifier = SnpVerifier(world.anchors, ChainCache(load_key=load))
    pool = EndorsementSet.from_der(world.certificates, [world.crl()])
    raw, kept, expected = world.raw, SnpReport.parse(world.raw), b"\x5a" * 64

    def once() -> object:
        report = SnpReport.parse(raw) if parse else kept
        return verifier.verify(report, pool, now=NOW, expected_report_data=expected)

    return once


def _row(name: str, ours: Callable[[], object], peer: Callable[[], object], target: float) -> dict[str, Any]:
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(ROUNDS)]
    mine = statistics.median(pair[0] for pair in pairs)
    theirs = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    return {
        "name": name,
        "ours": f"{mine * 1e6:.0f} us",
        "peer": f"{theirs * 1e6:.0f} us bare",
        "ratio": f"{ratio:.3f}",
        "target": f"<= {target}",
        "met": ratio <= target,
        "detail": f"{1 / mine:.0f} reports per CPU-second; {ROUNDS} interleaved pairs of {WINDOW} s windows, medians",
    }


def _seconds(call: Callable[[], object]) -> float:
    """CPU seconds per call in one window."""
    call()
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < WINDOW:
        for _ in range(20):
            call()
        count += 20
    return spent / count

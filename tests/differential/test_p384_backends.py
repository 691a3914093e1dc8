"""AWS-LC and ``cryptography`` give the same verdict on every vector and on random mutations.

``CVM_MUTATIONS`` sets their number; 100000 take about two minutes.
"""

from __future__ import annotations

import hashlib
import os
import random
from datetime import datetime
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.p384 import HAVE_AWSCRT, KeyLoader, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.snp_report import SIGNED_SIZE, SnpReport
from attest.verifier.snp import SnpVerifier
from policy.errors import CvmError
from tests.fakes.amd_pki import NOW, FakeAmdPki, ec_key
from tests.unit.attest.verifier.vector_files import clock_for, listed, read

pytestmark = pytest.mark.skipif(not HAVE_AWSCRT, reason="awscrt is not installed: there is one back end only")

MUTATIONS = int(os.environ.get("CVM_MUTATIONS", "4000"))
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
LOADERS: tuple[KeyLoader, KeyLoader] = (load_with_cryptography, load_with_awscrt)


class Pair:
    """Both back ends with the same certificates."""

    def __init__(self, pool: EndorsementSet, anchors: TrustAnchors, now: datetime) -> None:
        self.pool, self.now = pool, now
        self.verifiers = [SnpVerifier(anchors, ChainCache(load_key=load)) for load in LOADERS]

    def verdict(self, raw: bytes) -> str:
        """What both say about ``raw``; fails when they differ."""
        one, other = (self._one(verifier, raw) for verifier in self.verifiers)
        assert one == other, raw.hex()
        return one

    def _one(self, verifier: SnpVerifier, raw: bytes) -> str:
        try:
            claims = verifier.verify(SnpReport.parse(raw), self.pool, now=self.now, expected_report_data=None)
        except CvmError as exc:
            return f"{exc.code}: {exc.message}"
        return f"genuine {claims.snp!r}"


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """Mostly the signature, because the parser refuses much of the rest before a back end sees it."""
    data = bytearray(raw)
    kind = chance.randrange(8)
    if kind < 3:
        data[chance.randrange(0x2A0, 0x2A0 + 48)] ^= 1 << chance.randrange(8)
    elif kind < 5:
        data[chance.randrange(0x2E8, 0x2E8 + 48)] ^= 1 << chance.randrange(8)
    elif kind == 5:
        data[chance.randrange(0x50, 0x180)] = chance.randrange(256)
    elif kind == 6:
        which = chance.choice((0x2A0, 0x2E8))
        data[which : which + 48] = chance.choice([*EDGES, chance.randrange(1 << 384)]).to_bytes(48, "little")
    else:
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


EDGES = [0, 1, 2, ORDER - 1, ORDER, ORDER + 1, (1 << 384) - 1, 1 << 383, ORDER >> 1]


def test_both_agree_on_random_mutations() -> None:
    world = FakeAmdPki(report={"version": 5})
    pair = Pair(EndorsementSet.from_der(world.certificates, with_evidence=True), world.anchors, NOW)
    chance = random.Random(20261123)
    genuine = [pair.verdict(mutated(world.raw, chance)).startswith("genuine") for _ in range(MUTATIONS)]
    assert pair.verdict(world.raw).startswith("genuine")
    assert sum(genuine) < MUTATIONS // 50, "only a byte replaced by itself leaves a report genuine"


def test_both_accept_the_mirrored_signature_and_refuse_every_edge_value() -> None:
    world = FakeAmdPki()
    pair = Pair(EndorsementSet.from_der(world.certificates, with_evidence=True), world.anchors, NOW)
    s = int.from_bytes(world.raw[0x2E8 : 0x2E8 + 48], "little")
    mirrored = bytearray(world.raw)
    mirrored[0x2E8 : 0x2E8 + 48] = (ORDER - s).to_bytes(48, "little")
    assert pair.verdict(bytes(mirrored)).startswith("genuine")
    for offset in (0x2A0, 0x2E8):
        for value in EDGES:
            changed = bytearray(world.raw)
            changed[offset : offset + 48] = value.to_bytes(48, "little")
            assert pair.verdict(bytes(changed)).startswith("verification.signature"), (hex(offset), hex(value))


@pytest.mark.parametrize("signature", [
    b"", b"\x30\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"\x30\x06\x02\x01\x01\x02\x01\x01", b"\x30\x80\x02\x01\x01\x02\x01\x01\x00\x00",
    b"\x30\x06\x02\x01\xff\x02\x01\x01", b"\x30\x07\x02\x02\x00\x01\x02\x01\x01", b"\x00" * 96, b"\x30\x06\x02\x01\x01\x02\x01\x01\x00",
])  # fmt: skip
def test_both_refuse_a_wrong_encoding_in_the_same_way(signature: bytes) -> None:
    spki = ec_key("leaf").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for load in LOADERS:
        with pytest.raises(InvalidSignature):
            load(spki).verify(signature, bytes(48))


def test_both_agree_on_every_real_report(vectors: Path) -> None:
    seen = 0
    for entry in listed(vectors, "report", "forged_report"):
        own = read(vectors, entry["endorsement_files"])
        if not own:
            continue
        pool = EndorsementSet.from_der([*own, *read(vectors, entry["chain_files"])], with_evidence=True)
        pair = Pair(pool, TrustAnchors.amd(), clock_for(own))
        (raw,) = read(vectors, [entry["file"]])
        assert pair.verdict(raw).startswith("genuine" if entry["kind"] == "report" else "verification.root")
        changed = bytearray(raw)
        changed[SIGNED_SIZE] ^= 1
        assert pair.verdict(bytes(changed)).startswith("verification.")
        seen += 1
    assert seen >= 45


def test_both_agree_with_the_digest_of_the_received_bytes() -> None:
    world = FakeAmdPki()
    report = SnpReport.parse(world.raw)
    scalars = (int.from_bytes(part, "little") for part in (report.signature_r, report.signature_s))
    signature, digest = encode_dss_signature(*scalars), hashlib.sha384(report.signed).digest()
    spki = ec_key("leaf").public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for load in LOADERS:
        load(spki).verify(signature, digest)

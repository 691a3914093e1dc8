"""AMD's own certificates: the canary for serial number 0, broken chains, revocation, and re-issued leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from attest.endorsement.amd import walk_chain
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import AMD_ROOT_KEYS, TrustAnchors
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import LEAF_KIND, AmdCertificate, AmdCrl, Role
from attest.evidence.errors import EvidenceMalformed
from tests.unit.attest.verifier.vector_files import CHECKED_ON, clock_for, listed, read


def test_cryptography_still_loads_certificates_with_serial_number_zero(vectors: Path) -> None:
    """The canary: the day this fails, leaves are read by a copy with another number, which the next test tries."""
    (der,) = read(vectors, ["certs/milan_vcek_b67b09bf.der"])
    assert x509.load_der_x509_certificate(der).serial_number == 0
    assert AmdCertificate.parse(der).amd is not None


@pytest.fixture
def refuses_serial_zero(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """``cryptography`` as it may be one day; lists what it refused."""
    load, refused = x509.load_der_x509_certificate, list[bytes]()

    def strict(data: bytes) -> x509.Certificate:
        found = load(data)
        if found.serial_number == 0:
            refused.append(data)
            raise ValueError("invalid serial number")
        return found

    monkeypatch.setattr(x509, "load_der_x509_certificate", strict)
    return refused


def test_leaves_are_read_and_walked_alike_by_a_library_that_refuses_serial_number_zero(
    vectors: Path, refuses_serial_zero: list[bytes]
) -> None:
    anchors = read(vectors, [entry["file"] for entry in listed(vectors, "ark", "ask", "asvk")])
    cache = ChainCache()
    for entry in listed(vectors, "vcek", "vlek"):
        (der,) = read(vectors, [entry["file"]])
        leaf = AmdCertificate.parse(der)
        assert refuses_serial_zero[-1] == leaf.der == der
        assert leaf.spki_sha256.hex() == entry["facts"]["spki_sha256"]
        pool = EndorsementSet.from_der([der, *anchors])
        if entry["verification"]["chain"]:
            assert walk_chain(leaf, pool, TrustAnchors.amd(), clock_for([der]), cache).root_name == "amd"
        else:
            with pytest.raises(VerificationFailed):
                walk_chain(leaf, pool, TrustAnchors.amd(), clock_for([der]), cache)


@pytest.mark.filterwarnings("ignore:Attribute:UserWarning")
@pytest.mark.usefixtures("refuses_serial_zero")
def test_a_changed_leaf_is_refused_by_that_library_too(vectors: Path) -> None:
    anchors = read(vectors, [entry["file"] for entry in listed(vectors, "ark", "ask", "asvk")])
    (der,) = read(vectors, ["certs/milan_vcek_b67b09bf.der"])
    now, accepted = clock_for([der]), []
    for offset in range(len(der)):
        changed = bytearray(der)
        changed[offset] ^= 1 << offset % 8
        try:
            leaf = AmdCertificate.parse(bytes(changed))
            walk_chain(
                leaf,
                EndorsementSet.of([leaf], ()) + EndorsementSet.from_der(anchors),
                TrustAnchors.amd(),
                now,
                ChainCache(),
            )
        except (EvidenceMalformed, VerificationFailed, EndorsementMissing):
            continue
        accepted.append(offset)
    assert accepted == []


def test_every_leaf_walks_to_its_root_unless_its_chain_is_bad(vectors: Path) -> None:
    anchors = read(vectors, [entry["file"] for entry in listed(vectors, "ark", "ask", "asvk")])
    cache, bad = ChainCache(), 0
    for entry in listed(vectors, "vcek", "vlek"):
        (der,) = read(vectors, [entry["file"]])
        leaf = AmdCertificate.parse(der)
        pool = EndorsementSet.from_der([der, *anchors])
        if entry["verification"]["chain"]:
            trusted = walk_chain(leaf, pool, TrustAnchors.amd(), clock_for([der]), cache)
            assert trusted.root_name == "amd"
        else:
            with pytest.raises(VerificationFailed) as caught:
                walk_chain(leaf, pool, TrustAnchors.amd(), clock_for([der]), cache)
            assert caught.value.step == "leaf"
            bad += 1
    assert bad >= 1


def test_extensions_equal_the_manifest(vectors: Path) -> None:
    for entry in listed(vectors, "vcek", "vlek"):
        (der,) = read(vectors, [entry["file"]])
        certificate = AmdCertificate.parse(der)
        facts = entry["facts"]
        assert certificate.amd is not None
        assert certificate.amd.tcb.parts() == facts["tcb"]
        assert (certificate.amd.hwid or b"").hex() == facts["extensions"].get("hwID", "")
        assert certificate.amd.csp_id == facts["extensions"].get("cspID")
        assert certificate.spki_sha256.hex() == facts["spki_sha256"]
        assert LEAF_KIND[certificate.role].name.lower() == entry["kind"]


def test_the_pins_are_the_keys_of_the_published_roots(vectors: Path) -> None:
    for entry in listed(vectors, "ark"):
        (der,) = read(vectors, [entry["file"]])
        root = AmdCertificate.parse(der)
        assert root.role is Role.ARK
        assert AMD_ROOT_KEYS[root.product] == root.spki_sha256


def _genoa(vectors: Path, ask: str, crls: list[str], now: datetime) -> str:
    (leaf,) = read(vectors, ["certs/genoa_vcek_814b37a9.der"])
    pool = EndorsementSet.from_der([leaf, *read(vectors, [ask, "anchors/genoa_ark.der"])], read(vectors, crls))
    return walk_chain(AmdCertificate.parse(leaf), pool, TrustAnchors.amd(), now, ChainCache()).revocation


def test_revocation_is_good_within_the_lists_time_stale_after_and_not_checked_before(vectors: Path) -> None:
    ask, crls = "anchors/genoa_ask.der", ["crls/genoa_2024-10.der"]
    assert _genoa(vectors, ask, crls, datetime(2024, 12, 1, tzinfo=UTC)) == "good"
    assert _genoa(vectors, ask, crls, CHECKED_ON) == "stale"
    assert _genoa(vectors, ask, crls, datetime(2024, 7, 1, tzinfo=UTC)) == "not-checked"
    assert _genoa(vectors, ask, [], CHECKED_ON) == "not-checked"
    assert _genoa(vectors, ask, ["crls/milan_2026-08.der"], CHECKED_ON) == "not-checked"


def test_the_newest_list_that_was_issued_by_then_decides(vectors: Path) -> None:
    (leaf,) = read(vectors, ["certs/milan_vcek_b67b09bf.der"])
    chain = read(vectors, ["anchors/milan_ask.der", "anchors/milan_ark.der"])
    pool = EndorsementSet.from_der([leaf, *chain], read(vectors, ["crls/milan_2022-05.der", "crls/milan_2026-08.der"]))
    parsed = AmdCertificate.parse(leaf)
    for now, wanted in ((datetime(2026, 9, 1, tzinfo=UTC), "good"), (datetime(2026, 8, 1, tzinfo=UTC), "stale")):
        assert walk_chain(parsed, pool, TrustAnchors.amd(), now, ChainCache()).revocation == wanted


def test_the_revoked_genoa_ask_is_named_by_its_list(vectors: Path) -> None:
    (der,) = read(vectors, ["anchors/genoa-revoked_ask.der"])
    (crl,) = read(vectors, ["crls/genoa_2024-10.der"])
    assert AmdCertificate.parse(der).parsed.serial_number in AmdCrl.parse(crl).revoked


def test_an_altered_list_counts_as_none(vectors: Path) -> None:
    (crl,) = read(vectors, ["crls/genoa_2024-10.der"])
    (leaf,) = read(vectors, ["certs/genoa_vcek_814b37a9.der"])
    chain = read(vectors, ["anchors/genoa_ask.der", "anchors/genoa_ark.der"])
    altered = crl[:-1] + bytes([crl[-1] ^ 1])
    pool = EndorsementSet.from_der([leaf, *chain], [altered])
    now = datetime(2024, 12, 1, tzinfo=UTC)
    trusted = walk_chain(AmdCertificate.parse(leaf), pool, TrustAnchors.amd(), now, ChainCache())
    assert trusted.revocation == "not-checked"

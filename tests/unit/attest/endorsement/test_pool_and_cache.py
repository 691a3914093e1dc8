"""Which certificates are tried, what is missing, what is remembered and what never is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from attest.endorsement.amd import walk_chain
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.p384 import HAVE_AWSCRT, load_with_awscrt, load_with_cryptography
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from policy.snp import SigningKey, TcbVersion
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import CHIP, NOW, Ca, FakeAmdPki, Leaf

WORLD = FakeAmdPki()
OTHER_CHIP = FakeAmdPki(leaf=Leaf(key="other", hwid=b"\x99" * 64))
OTHER_TCB = FakeAmdPki(leaf=Leaf(key="old", tcb=TcbVersion(9, 0, 23, 72)))
REPORT = SnpReport.parse(WORLD.raw)


def verify(pool: EndorsementSet, verifier: SnpVerifier | None = None, now: datetime = NOW) -> None:
    (verifier or SnpVerifier(WORLD.anchors)).verify(REPORT, pool, now=now, expected_report_data=None)


def test_the_right_leaf_is_found_among_many() -> None:
    verify(EndorsementSet.from_der([OTHER_CHIP.leaf_der, OTHER_TCB.leaf_der, *WORLD.certificates]))


def test_a_library_without_the_leaf_is_unavailable_and_says_what_is_there() -> None:
    pool = EndorsementSet.from_der([OTHER_CHIP.leaf_der, OTHER_TCB.leaf_der, WORLD.ask_der, WORLD.ark_der])
    with pytest.raises(EndorsementMissing, match=r"microcode=84 \(but at bootloader=9 .*72\)") as caught:
        verify(pool)
    assert caught.value.kind == "unavailable"


def test_the_only_leaf_is_judged_although_it_does_not_fit() -> None:
    with pytest.raises(VerificationFailed) as caught:
        verify(EndorsementSet.from_der([OTHER_CHIP.leaf_der, WORLD.ask_der, WORLD.ark_der]))
    assert caught.value.step == "chip-id"


def test_a_leaf_that_came_with_the_evidence_is_judged_although_a_library_has_others() -> None:
    sent = EndorsementSet.from_der([OTHER_TCB.leaf_der], with_evidence=True)
    library = EndorsementSet.from_der([OTHER_CHIP.leaf_der, WORLD.ask_der, WORLD.ark_der])
    with pytest.raises(VerificationFailed) as caught:
        verify(sent + library)
    assert caught.value.step == "tcb"


@pytest.mark.parametrize("gone", ["ask", "ark"])
def test_a_missing_issuer_is_unavailable(gone: str) -> None:
    rest = [WORLD.leaf_der] + ([WORLD.ark_der] if gone == "ask" else [WORLD.ask_der])
    anchors = TrustAnchors(WORLD.anchors.keys)
    with pytest.raises(EndorsementMissing, match="SEV-Genoa" if gone == "ask" else "ARK-Genoa"):
        verify(EndorsementSet.from_der(rest), SnpVerifier(anchors))


def test_a_test_root_need_not_be_sent_because_the_anchor_holds_it() -> None:
    verify(EndorsementSet.from_der([WORLD.leaf_der, WORLD.ask_der]))


def test_one_good_chain_is_enough_beside_bad_ones() -> None:
    forged = FakeAmdPki(ark=Ca(key="forger"), ask=Ca(key="forger-ask"))
    expired = FakeAmdPki(leaf=Leaf(not_after=datetime(2026, 1, 1, tzinfo=UTC)))
    verify(EndorsementSet.from_der([*forged.certificates, expired.leaf_der, *WORLD.certificates]))


def test_of_several_failures_the_furthest_is_reported() -> None:
    expired = FakeAmdPki(leaf=Leaf(not_after=datetime(2026, 1, 1, tzinfo=UTC)))
    unsigned = FakeAmdPki(leaf=Leaf(signer="somebody"))
    with pytest.raises(VerificationFailed) as caught:
        verify(EndorsementSet.from_der([unsigned.leaf_der, expired.leaf_der, WORLD.ask_der, WORLD.ark_der]))
    assert caught.value.step == "validity"


def test_a_damaged_certificate_is_named_when_nothing_better_is_there() -> None:
    damaged = EndorsementSet(damaged=(EvidenceMalformed("vcek.pem: cut off"),))
    with pytest.raises(EvidenceMalformed, match=r"vcek\.pem"):
        verify(damaged)
    with pytest.raises(EndorsementMissing):
        verify(EndorsementSet())
    verify(damaged + EndorsementSet.from_der(WORLD.certificates))


def test_a_remembered_chain_is_judged_by_time_again() -> None:
    verifier = SnpVerifier(WORLD.anchors)
    pool = EndorsementSet.from_der(WORLD.certificates)
    verify(pool, verifier)
    with pytest.raises(VerificationFailed) as caught:
        verify(pool, verifier, now=datetime(2033, 1, 1, tzinfo=UTC))
    assert caught.value.step == "validity"


def test_what_is_remembered_gives_at_every_date_what_nothing_remembered_gives() -> None:
    leaf = Leaf(not_before=datetime(2026, 2, 1, tzinfo=UTC), not_after=datetime(2026, 9, 1, tzinfo=UTC))
    world = FakeAmdPki(leaf=leaf, ask=Ca(serial=77))
    lists = [
        world.crl(this_update=datetime(2026, 3, 1, tzinfo=UTC), next_update=datetime(2026, 5, 1, tzinfo=UTC)),
        world.crl(this_update=datetime(2026, 8, 1, tzinfo=UTC), revoked=[77]),
    ]
    pool, cache = EndorsementSet.from_der(world.certificates, lists), ChainCache()
    dates = [item for found in pool.crls for item in (found.this_update, found.next_update) if item is not None]
    dates += [item for found in pool.leaves for item in (found.not_before, found.not_after)]
    moments = sorted({date + timedelta(seconds=step) for date in dates for step in (-2, -1, 0, 1, 2)})

    def outcome(now: datetime, memory: ChainCache) -> str:
        try:
            return walk_chain(pool.leaves[0], pool, world.anchors, now, memory).revocation
        except VerificationFailed as exc:
            return exc.step

    fresh = [outcome(now, ChainCache()) for now in moments]
    assert set(fresh) == {"validity", "not-checked", "good", "stale", "revocation"}
    for order in (1, -1):
        assert [outcome(now, cache) for now in moments[::order]] == fresh[::order]


def test_a_remembered_chain_is_judged_by_revocation_again() -> None:
    world = FakeAmdPki(ask=Ca(serial=77))
    verifier = SnpVerifier(world.anchors)
    verify(EndorsementSet.from_der(world.certificates), verifier)
    with pytest.raises(VerificationFailed) as caught:
        verify(EndorsementSet.from_der(world.certificates, [world.crl(revoked=[77])]), verifier)
    assert caught.value.step == "revocation"


def test_a_remembered_chain_is_judged_by_trust_again() -> None:
    cache = ChainCache()
    pool = EndorsementSet.from_der(WORLD.certificates)
    verify(pool, SnpVerifier(WORLD.anchors, cache))
    with pytest.raises(VerificationFailed) as caught:
        verify(pool, SnpVerifier(TrustAnchors.amd(), cache))
    assert caught.value.step == "root"


def test_a_bounded_cache_still_verifies() -> None:
    verifier = SnpVerifier(WORLD.anchors, ChainCache(limit=1))
    pool = EndorsementSet.from_der(WORLD.certificates, [WORLD.crl()])
    for _ in range(2):
        verify(pool, verifier)
        leaf = AmdCertificate.parse(OTHER_CHIP.leaf_der)
        walk_chain(leaf, pool, WORLD.anchors, NOW, verifier.cache)


def test_a_list_of_a_root_that_may_not_sign_lists_counts_as_none() -> None:
    world = FakeAmdPki(ark=Ca(crl_sign=False))
    assert world.verify(crls=[world.crl()]).snp.revocation == "not-checked"


def test_a_list_signed_by_somebody_else_counts_as_none() -> None:
    world = FakeAmdPki(ask=Ca(serial=77))
    assert world.verify(crls=[world.crl(revoked=[77], signer="somebody")]).snp.revocation == "not-checked"


def test_naming_amds_own_root_as_a_test_root_does_not_make_it_a_test() -> None:
    assert TrustAnchors.amd().with_test_root(WORLD.ark_der).keys.keys() > TrustAnchors.amd().keys.keys()
    with pytest.raises(EvidenceMalformed, match="want ARK"):
        TrustAnchors.test_only(WORLD.ask_der)


@pytest.mark.parametrize(
    "leaf",
    [
        Leaf(drop=["1.3.6.1.4.1.3704.1.4"]), Leaf(drop=["1.3.6.1.4.1.3704.1.3.3"]), Leaf(drop=["1.3.6.1.4.1.3704.1.1"]),
        Leaf(replace={"1.3.6.1.4.1.3704.1.5": b"\x16\x01x"}), Leaf(replace={"1.3.6.1.4.1.3704.1.3.8": b"\x02\x02\x00\x54"}),
        Leaf(replace={"1.3.6.1.4.1.3704.1.3.5": b"\x02\x01\x01"}), Leaf(hwid=CHIP[:8]), Leaf(hwid=CHIP + b"\0"),
        Leaf(replace={"1.3.6.1.4.1.3704.1.3.1": b"\x02\x01\x0a\x00"}), Leaf(replace={"1.3.6.1.4.1.3704.1.2": b"\x0c\x01x"}),
    ],
)  # fmt: skip
def test_a_vcek_with_wrong_extensions_is_malformed(leaf: Leaf) -> None:
    with pytest.raises(EvidenceMalformed):
        AmdCertificate.parse(FakeAmdPki(leaf=leaf).leaf_der)


@pytest.mark.parametrize(
    "leaf",
    [Leaf(replace={"1.3.6.1.4.1.3704.1.4": CHIP}), Leaf(drop=["1.3.6.1.4.1.3704.1.5"])],
)
def test_a_vlek_with_wrong_extensions_is_malformed(leaf: Leaf) -> None:
    with pytest.raises(EvidenceMalformed):
        AmdCertificate.parse(FakeAmdPki(kind=SigningKey.VLEK, leaf=leaf).leaf_der)


def test_turin_and_wrapped_chip_ids_are_read() -> None:
    turin = AmdCertificate.parse(FakeAmdPki(product=SnpProduct.TURIN).leaf_der)
    assert turin.amd is not None
    assert turin.amd.hwid == CHIP[:8]
    wrapped = AmdCertificate.parse(FakeAmdPki(leaf=Leaf(hwid=b"\x04\x40" + CHIP)).leaf_der)
    assert wrapped.amd is not None
    assert wrapped.amd.hwid == CHIP


def test_an_unknown_part_of_a_newer_product_is_ignored() -> None:
    newer = FakeAmdPki(leaf=Leaf(replace={"1.3.6.1.4.1.3704.1.3.10": b"\x02\x01\x05"}))
    assert newer.verify().snp.product is SnpProduct.GENOA


def test_a_product_name_with_another_stepping_or_of_no_product_known_here_says_nothing_against_the_issuer() -> None:
    for name in ("Genoa-B9", "Siena-A1"):
        world = FakeAmdPki(leaf=Leaf(product_name=name))
        verify(EndorsementSet.from_der(world.certificates), SnpVerifier(world.anchors))


def test_certificates_of_other_vendors_are_told_apart_from_damaged_ones() -> None:
    with pytest.raises(UnrelatedCertificate):
        AmdCertificate.parse(FakeAmdPki(ask=Ca(cn="Intel SGX PCK CA")).ask_der)
    with pytest.raises(UnrelatedCertificate):
        AmdCrl.parse(FakeAmdPki(ark=Ca(cn="Intel SGX Root CA")).crl())
    with pytest.raises(EvidenceMalformed):
        AmdCertificate.parse(b"\x30\x03\x02\x01\x00")
    with pytest.raises(EvidenceMalformed):
        AmdCertificate.parse(WORLD.leaf_der + b"\0")
    with pytest.raises(EvidenceMalformed):
        AmdCrl.parse(WORLD.leaf_der)


@pytest.mark.skipif(not HAVE_AWSCRT, reason="awscrt is an optional extra")
@pytest.mark.parametrize("load", [load_with_awscrt, load_with_cryptography])
@pytest.mark.parametrize("broken", ["", "r-zero", "s-zero", "r-is-n", "s-is-n", "digest"])
def test_both_libraries_give_the_same_verdicts(load: object, broken: str) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
    raw = bytearray(WORLD.raw)
    if broken.endswith("-zero"):
        start = 0x2A0 if broken[0] == "r" else 0x2E8
        raw[start : start + 48] = bytes(48)
    elif broken.endswith("-is-n"):
        start = 0x2A0 if broken[0] == "r" else 0x2E8
        raw[start : start + 48] = order.to_bytes(48, "little")
    elif broken:
        raw[0x90] ^= 1
    verifier = SnpVerifier(WORLD.anchors, ChainCache(load_key=load))  # type: ignore[arg-type]
    pool = EndorsementSet.from_der(WORLD.certificates)
    report = SnpReport.parse(bytes(raw))
    if not broken:
        verifier.verify(report, pool, now=NOW, expected_report_data=None)
        return
    with pytest.raises(VerificationFailed) as caught:
        verifier.verify(report, pool, now=NOW, expected_report_data=None)
    assert caught.value.step == "signature"


def test_misuse_is_a_type_error_or_value_error() -> None:
    pool = EndorsementSet.from_der(WORLD.certificates)
    with pytest.raises(TypeError, match="aware"):
        verify(pool, now=datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="64"):
        SnpVerifier(WORLD.anchors).verify(REPORT, pool, now=NOW, expected_report_data=b"short")


def test_either_of_two_lists_of_a_root_may_revoke() -> None:
    """AMD publishes one list for the keys of chips and one for those of clouds; the newer need not be the one."""
    world = FakeAmdPki()
    serial = AmdCertificate.parse(world.ask_der).parsed.serial_number
    older = world.crl(revoked=[serial], this_update=datetime(2026, 4, 1, tzinfo=UTC))
    with pytest.raises(VerificationFailed) as caught:
        world.verify(crls=[world.crl(), older])
    assert caught.value.step == "revocation"

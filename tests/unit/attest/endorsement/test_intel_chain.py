"""Intel's chains, lists and anchors: roles, links, dates, revocation, and what is remembered."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from attest.emulator.td_pki import Validity
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel import (
    INTEL_ROOT_KEY,
    IntelAnchors,
    IntelCache,
    check_dates,
    pck_chain,
    revocation,
    tcb_signing_chains,
)
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, IntelRole
from tests.fakes.intel_pki import LIFE, NOW, FakeIntelPki

WORLD = FakeIntelPki()
OLD = Validity(NOW - timedelta(days=60), NOW - timedelta(days=30))
OLDER = Validity(NOW - timedelta(days=90), NOW + timedelta(days=90))
LATER = Validity(NOW + timedelta(seconds=1), NOW + timedelta(days=30))
RIGHT, OTHER = "PLATFORM_CA", "PROCESSOR_CA"


def parsed(*ders: bytes) -> list[IntelCertificate]:
    return [IntelCertificate.parse(der) for der in ders]


def lists(*changes: dict[str, object], issuer: str = RIGHT) -> list[IntelCrl]:
    return [IntelCrl.parse(FakeIntelPki(crls={issuer: change}).crl(issuer)) for change in changes]


CHAIN = pck_chain(parsed(*WORLD.chain), WORLD.anchors, IntelCache())
ROOT_LIST = lists({}, issuer="ROOT")


def state(*crls: IntelCrl) -> str:
    return revocation(CHAIN, [*ROOT_LIST, *crls], NOW, IntelCache()).state


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_chain_holds_in_whatever_order_it_came(order: tuple[int, ...]) -> None:
    found = pck_chain(parsed(*(WORLD.chain[n] for n in order)), WORLD.anchors, IntelCache())
    assert [item.role for item in found.certificates] == [IntelRole.PCK, IntelRole.PLATFORM_CA, IntelRole.ROOT]
    assert found.root_name == f"test:{WORLD.issued('ROOT').spki_sha256.hex()}"
    assert found.leaf.sgx is not None
    assert found.root.der == WORLD.root_der


@pytest.mark.parametrize("chosen", [(), (0,), (0, 1), (0, 2), (1, 2), (0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2)])
def test_a_chain_is_exactly_three_certificates(chosen: tuple[int, ...]) -> None:
    with pytest.raises(VerificationFailed, match="want a PCK certificate, its CA and the root") as caught:
        pck_chain(parsed(*(WORLD.chain[n] for n in chosen)), WORLD.anchors, IntelCache())
    assert caught.value.step == "leaf"


def test_intels_root_is_known_by_its_key() -> None:
    assert IntelAnchors.intel().keys == {INTEL_ROOT_KEY: "intel"}
    assert IntelAnchors.intel().name_of(parsed(WORLD.root_der)[0]) is None


def test_a_test_root_is_named_by_the_digest_of_its_key_and_leaves_intels_trusted() -> None:
    anchors = IntelAnchors.intel().with_test_root(WORLD.root_der)
    root = parsed(WORLD.root_der)[0]
    assert anchors.name_of(root) == f"test:{root.spki_sha256.hex()}"
    assert anchors.keys[INTEL_ROOT_KEY] == "intel"
    assert anchors.test_roots == (root,)


def test_a_test_root_that_is_not_named_as_one_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="test root"):
        IntelAnchors.test_only(WORLD.issued("TCB_SIGNING").der)


def test_a_root_issued_again_with_the_same_key_is_the_same_anchor() -> None:
    again = FakeIntelPki(certificates={"ROOT": {"validity": Validity(LIFE.start, LIFE.end - timedelta(days=1))}})
    assert again.root_der != WORLD.root_der
    assert pck_chain(parsed(*again.chain), WORLD.anchors, IntelCache()).root.der == again.root_der


def test_what_is_remembered_says_nothing_about_trust() -> None:
    cache = IntelCache()
    pck_chain(parsed(*WORLD.chain), WORLD.anchors, cache)
    with pytest.raises(VerificationFailed) as caught:
        pck_chain(parsed(*WORLD.chain), IntelAnchors.intel(), cache)
    assert caught.value.step == "root"


def test_what_is_remembered_is_of_these_very_certificates() -> None:
    cache = IntelCache()
    pck_chain(parsed(*WORLD.chain), WORLD.anchors, cache)
    forged = FakeIntelPki(certificates={RIGHT: {"key": "another authority"}})
    with pytest.raises(VerificationFailed, match="does not verify"):
        pck_chain(parsed(forged.chain[0], *WORLD.chain[1:]), WORLD.anchors, cache)


def test_the_memory_is_bounded() -> None:
    cache = IntelCache(limit=2)
    for name in (b"a", b"b", b"c"):
        cache.keep(name, name)
    assert [cache.get(name) for name in (b"a", b"b", b"c")] == [None, b"b", b"c"]


def test_a_chain_is_valid_from_its_first_to_its_last_second() -> None:
    check_dates(CHAIN, LIFE.start)
    check_dates(CHAIN, LIFE.end)
    for moment in (LIFE.start - timedelta(seconds=1), LIFE.end + timedelta(seconds=1)):
        with pytest.raises(VerificationFailed) as caught:
            check_dates(CHAIN, moment)
        assert caught.value.step == "validity"


def test_current_lists_of_both_issuers_are_good() -> None:
    found = revocation(CHAIN, [*ROOT_LIST, *lists({})], NOW, IntelCache())
    assert found.state == "good"
    assert set(found.lists) == {IntelRole.ROOT, IntelRole.PLATFORM_CA}


def test_one_list_alone_is_not_enough() -> None:
    assert state() == "not-checked"
    assert revocation(CHAIN, lists({}), NOW, IntelCache()).state == "not-checked"
    assert revocation(CHAIN, [], NOW, IntelCache()).state == "not-checked"


def test_a_list_is_current_up_to_its_next_update() -> None:
    (crl,) = lists({})
    both = [*ROOT_LIST, crl]
    assert revocation(CHAIN, both, crl.next_update, IntelCache()).state == "good"
    assert revocation(CHAIN, both, crl.next_update + timedelta(seconds=1), IntelCache()).state == "stale"


def test_a_list_of_the_future_is_not_there_yet() -> None:
    assert state(*lists({"validity": LATER})) == "not-checked"
    assert state(*lists({"validity": LATER, "revoked": ("PCK",)})) == "not-checked"


def test_the_newest_list_says_how_current_the_answer_is() -> None:
    assert state(*lists({"validity": OLD})) == "stale"
    for crls in (lists({"validity": OLD}, {}), lists({}, {"validity": OLD})):
        assert state(*crls) == "good"
    for crls in (lists({"validity": OLD}, {"validity": OLDER}), lists({"validity": OLDER}, {"validity": OLD})):
        assert state(*crls) == "stale"


def test_a_list_that_its_issuer_did_not_sign_is_passed_over() -> None:
    assert state(*lists({"key": "somebody"})) == "not-checked"
    assert state(*lists({"key": "somebody", "revoked": ("PCK",)}, {})) == "good"


def test_a_list_of_the_other_authority_says_nothing() -> None:
    assert state(*lists({"revoked": ("PCK",)}, issuer=OTHER)) == "not-checked"


def test_an_issuer_that_may_not_sign_lists_signed_none() -> None:
    issuer = CHAIN.certificates[1]
    weak = replace(issuer, usage=issuer.usage - {"crl_sign"}, sha256=b"weak")
    chain = replace(CHAIN, certificates=(CHAIN.leaf, weak, CHAIN.root))
    assert revocation(chain, [*ROOT_LIST, *lists({})], NOW, IntelCache()).state == "not-checked"


@pytest.mark.parametrize("more", [[], [{}], [{"validity": OLD}]])
def test_any_list_the_issuer_signed_revokes_whatever_newer_ones_say(more: list[dict[str, object]]) -> None:
    revoking: dict[str, object] = {"revoked": ("PCK",), "validity": OLDER, "number": 1}
    for crls in (lists(revoking, *more), lists(*more, revoking)):
        with pytest.raises(VerificationFailed, match="revoked by the list") as caught:
            state(*crls)
        assert caught.value.step == "revocation"


def test_the_tcb_signer_is_found_among_others() -> None:
    pool = IntelCollateral.of(parsed(*WORLD.chain, *WORLD.issuer_chain))
    (found,) = tcb_signing_chains(pool, WORLD.anchors, IntelCache())
    assert [item.role for item in found.certificates] == [IntelRole.TCB_SIGNING, IntelRole.ROOT]


def test_the_root_of_a_tcb_signer_may_come_from_the_anchors() -> None:
    pool = IntelCollateral.of(parsed(WORLD.issued("TCB_SIGNING").der))
    assert len(tcb_signing_chains(pool, WORLD.anchors, IntelCache())) == 1
    with pytest.raises(EndorsementMissing, match="Intel SGX Root CA"):
        tcb_signing_chains(pool, IntelAnchors.intel(), IntelCache())


def test_without_a_tcb_signer_something_is_missing_not_wrong() -> None:
    with pytest.raises(EndorsementMissing, match="Intel SGX TCB Signing"):
        tcb_signing_chains(IntelCollateral.of(parsed(*WORLD.chain)), WORLD.anchors, IntelCache())


def test_one_good_signer_is_enough_and_none_is_a_failure() -> None:
    forged = FakeIntelPki(certificates={"TCB_SIGNING": {"issuer": RIGHT}}).issuer_chain[0]
    both = IntelCollateral.of(parsed(forged, *WORLD.issuer_chain))
    assert len(tcb_signing_chains(both, WORLD.anchors, IntelCache())) == 1
    with pytest.raises(VerificationFailed) as caught:
        tcb_signing_chains(IntelCollateral.of(parsed(forged, WORLD.root_der)), WORLD.anchors, IntelCache())
    assert caught.value.step == "leaf"


def test_a_tcb_signer_under_an_authority_is_no_tcb_signer() -> None:
    """It would hold under the root, but only the root signs TCB signers."""
    below = FakeIntelPki(certificates={"TCB_SIGNING": {"issuer": RIGHT}})
    pool = IntelCollateral.of(parsed(below.issuer_chain[0], *below.chain[1:]))
    with pytest.raises(VerificationFailed, match="is not issued by"):
        tcb_signing_chains(pool, below.anchors, IntelCache())


def test_every_flipped_bit_of_every_certificate_is_refused() -> None:
    for place, name in enumerate(("PCK", RIGHT, "ROOT")):
        der = WORLD.chain[place]
        others = parsed(*(item for item in WORLD.chain if item is not der))
        assert accepted_flips(der, others) == [], name


def accepted_flips(der: bytes, others: list[IntelCertificate]) -> list[int]:
    """Bits of a certificate that may be another, though the chain holds all the same."""
    cache, anchors, accepted = IntelCache(), WORLD.anchors, []
    for place in range(len(der) * 8):
        flipped = bytearray(der)
        flipped[place // 8] ^= 1 << place % 8
        try:
            pck_chain([IntelCertificate.parse(bytes(flipped)), *others], anchors, cache)
        except (EvidenceMalformed, VerificationFailed):
            continue
        accepted.append(place)
    return accepted


def test_every_flipped_bit_of_the_tcb_signer_is_refused() -> None:
    der, cache, accepted = WORLD.issuer_chain[0], IntelCache(), []
    root = parsed(WORLD.root_der)
    for place in range(len(der) * 8):
        flipped = bytearray(der)
        flipped[place // 8] ^= 1 << place % 8
        try:
            tcb_signing_chains(IntelCollateral.of([*parsed(bytes(flipped)), *root]), WORLD.anchors, cache)
        except (EvidenceMalformed, VerificationFailed, EndorsementMissing):
            continue
        accepted.append(place)
    assert accepted == []


@pytest.mark.parametrize("issuer", ["ROOT", RIGHT])
def test_a_list_with_any_bit_flipped_says_nothing(issuer: str) -> None:
    der = FakeIntelPki(crls={issuer: {"revoked": ("PCK",)}}).crl(issuer)
    others = ROOT_LIST if issuer == RIGHT else lists({})
    cache = IntelCache()
    for place in range(len(der) * 8):
        flipped = bytearray(der)
        flipped[place // 8] ^= 1 << place % 8
        try:
            crl = IntelCrl.parse(bytes(flipped))
        except EvidenceMalformed:
            continue
        assert revocation(CHAIN, [*others, crl], NOW, cache).state == "not-checked", f"bit {place}"

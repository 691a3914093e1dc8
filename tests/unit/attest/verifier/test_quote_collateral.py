"""Which collateral counts for a quote where there is more than one of a kind: the newest that its own root vouches for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from attest.endorsement.errors import VerificationFailed
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.verifier.quote import QuoteVerifier
from policy.claims import TdxClaims
from tests.fakes.intel_pki import CURRENT, NOW, FakeIntelPki, isv, level, stamp

NEWER = {"issueDate": stamp(CURRENT.start + timedelta(hours=1)), "tcbEvaluationDataNumber": 21}
WORLD = FakeIntelPki()
OTHER = FakeIntelPki(
    certificates={"ROOT": {"key": "other root"}, "TCB_SIGNING": {"key": "other signer"}},
    json_key="other signer",
    tcb_info=NEWER,
    qe_identity=NEWER,
)
BOTH = WORLD.anchors.with_test_root(OTHER.root_der)


def number(world: FakeIntelPki, pool: IntelCollateral, anchors: IntelAnchors = BOTH) -> tuple[int, int]:
    """The evaluation numbers of the TCB info and QE identity that counted."""
    found = QuoteVerifier(anchors).verify(world.parsed, pool, now=NOW, expected_report_data=None)
    assert isinstance(found.tee, TdxClaims)
    return found.tee.tcb.tcb_info_number, found.tee.tcb.qe_identity_number


def test_each_root_has_its_own_collateral_in_one_pool() -> None:
    pool = WORLD.collateral + OTHER.collateral
    assert number(WORLD, pool) == (20, 20)
    assert number(OTHER, pool) == (21, 21)


@pytest.mark.parametrize("kind", ["tcb_infos", "qe_identities"])
def test_one_of_another_root_does_not_stand_in(kind: str) -> None:
    pool = WORLD.collateral + OTHER.collateral
    foreign = IntelCollateral(**{
        name: getattr(OTHER.collateral if name == kind else pool, name)
        for name in ("certificates", "crls", "tcb_infos", "qe_identities")
    })  # fmt: skip
    with pytest.raises(VerificationFailed, match="whose root is the quote's") as caught:
        number(WORLD, foreign)
    assert caught.value.step == "collateral"


def test_a_newer_one_that_nobody_signed_is_passed_over() -> None:
    forged = WORLD.with_(json_key="somebody", tcb_info=NEWER, qe_identity=NEWER, levels=(level(),), qe_levels=(isv(0),))
    assert number(WORLD, WORLD.collateral + forged.collateral, WORLD.anchors) == (20, 20)


def test_the_newest_that_is_signed_counts() -> None:
    newer = WORLD.with_(tcb_info=NEWER, qe_identity=NEWER)
    assert number(WORLD, WORLD.collateral + newer.collateral, WORLD.anchors) == (21, 21)

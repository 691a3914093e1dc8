"""Intel's collateral at hand: nothing twice, the newest that was issued, and why there is none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from attest.endorsement.errors import EndorsementMissing
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelRole
from attest.evidence.intel_json import QeIdentity, TcbInfo, parse_qe_identity, parse_tcb_info
from tests.fakes.intel_pki import FMSPC, NOW, FakeIntelPki, stamp

WORLD = FakeIntelPki()


def info(days: int = -2, number: int = 20, **members: Any) -> TcbInfo:
    """TCB info issued this many days from now."""
    members |= {"issueDate": stamp(NOW + timedelta(days=days)), "tcbEvaluationDataNumber": number}
    return parse_tcb_info(FakeIntelPki(tcb_info=members).tcb_info_json)


def identity(days: int = -2, number: int = 20) -> QeIdentity:
    members = {"issueDate": stamp(NOW + timedelta(days=days)), "tcbEvaluationDataNumber": number}
    return parse_qe_identity(FakeIntelPki(qe_identity=members).qe_identity_json)


def test_the_same_thing_is_held_once() -> None:
    again = WORLD.collateral + WORLD.collateral
    assert again == WORLD.collateral
    assert len(again.certificates) == 3


def test_the_same_text_under_two_signatures_is_two_things() -> None:
    once, twice = info(), info()
    assert once.signature != twice.signature
    assert len(IntelCollateral.of(tcb_infos=[once, twice]).tcb_infos) == 2


def test_certificates_are_found_by_their_role() -> None:
    assert [item.role for item in WORLD.collateral.by_role(IntelRole.TCB_SIGNING)] == [IntelRole.TCB_SIGNING]
    assert WORLD.collateral.by_role(IntelRole.PCK) == ()


def test_the_latest_that_was_issued_is_taken_and_of_one_day_the_higher_number() -> None:
    for order in (1, -1):
        found = [info(-9, 30), info(-2, 19), info(-2, 20), info(1, 40)][::order]
        chosen = IntelCollateral.of(tcb_infos=found).tcb_infos_of("TDX", FMSPC, NOW)[0]
        assert (chosen.number, chosen.issued) == (20, NOW - timedelta(days=2))
        others = [identity(-9, 30), identity(-2, 19), identity(-2, 20), identity(1, 40)][::order]
        assert IntelCollateral.of(qe_identities=others).qe_identities_of("TD_QE", NOW)[0].number == 20


def test_what_is_issued_at_this_very_second_is_there() -> None:
    assert IntelCollateral.of(tcb_infos=[info(0)]).tcb_infos_of("TDX", FMSPC, NOW)[0].issued == NOW


@pytest.mark.parametrize(("kind", "fmspc"), [("SGX", FMSPC), ("TDX", b"\xff" * 6)])
def test_another_kind_or_platform_is_missing(kind: str, fmspc: bytes) -> None:
    with pytest.raises(EndorsementMissing, match=f"no {kind} TCB info for FMSPC {fmspc.hex()}") as caught:
        IntelCollateral.of(tcb_infos=[info()]).tcb_infos_of(kind, fmspc, NOW)[0]
    assert caught.value.hint is not None
    assert f"--fmspc {fmspc.hex()}" in caught.value.hint


def test_a_missing_qe_identity_names_its_kind() -> None:
    with pytest.raises(EndorsementMissing, match="no QE identity QE"):
        IntelCollateral.of(qe_identities=[identity()]).qe_identities_of("QE", NOW)[0]


def test_what_was_issued_later_only_is_missing_and_counted() -> None:
    with pytest.raises(EndorsementMissing, match="2 issued later"):
        IntelCollateral.of(tcb_infos=[info(1), info(2)]).tcb_infos_of("TDX", FMSPC, NOW)[0]


def test_damage_is_told_instead_of_a_gap_but_not_instead_of_a_find() -> None:
    damage = EvidenceMalformed("TCB info: cut off")
    with pytest.raises(EvidenceMalformed, match="cut off"):
        IntelCollateral.of(damaged=[damage]).tcb_infos_of("TDX", FMSPC, NOW)[0]
    assert IntelCollateral.of(tcb_infos=[info()], damaged=[damage]).tcb_infos_of("TDX", FMSPC, NOW)[0].number == 20
    with pytest.raises(EndorsementMissing):
        IntelCollateral.of(tcb_infos=[info(1)], damaged=[damage]).tcb_infos_of("TDX", FMSPC, NOW)[0]

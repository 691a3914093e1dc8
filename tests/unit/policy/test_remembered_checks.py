"""Remembered results of rules about the machine are those the rules give."""

from __future__ import annotations

from typing import Any

import pytest

from policy.check import FAIL, IGNORED, PASS, Appraisal, Check
from policy.claims import SnpClaims
from policy.reference import ReferenceValue
from policy.reference_set import ReferenceSet
from policy.results import Known, Results
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey, TcbVersion
from policy.snp_checks import SNP, SNP_CHECKS
from policy.vocab import LaunchDigest, Platform, SnpProduct
from tests.fakes.claims import GOOD, verified
from tests.unit.policy.test_checks import NOW, policy

OTHER: dict[str, Any] = {
    "policy": GuestPolicy(0xB0000), "platform_info": PlatformInfo(0), "key_info": KeyInfo(1), "product": SnpProduct.TURIN,
    "measurement": LaunchDigest(b"\x77" * 48), "signing_key": SigningKey.VLEK, "csp_id": "CN=x", "root": "test:" + "0" * 64,
    "revocation": "stale", "cpuid_fam_id": None, "cpuid_mod_id": None, "cpuid_step": None, "launch_mit_vector": 3,
    "current_mit_vector": 3,
}  # fmt: skip


def other(name: str) -> Any:
    """Another value for a claim."""
    value = getattr(GOOD, name)
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, TcbVersion):
        return TcbVersion(1, 2, 3, 4)
    return value + 1 if isinstance(value, int) else bytes(byte ^ 0xFF for byte in value)


DOCUMENTS = [
    policy(),
    policy(
        ('family_ids = "any"', f'family_ids = ["{"02" * 16}"]'), ('image_ids = "any"', "image_ids = []"),
        ('report_ids = "any"', "report_ids = []"), ('report_data = "ignore"', f'report_data = "{"0a" * 64}"'),
        ('host_data = "ignore"', f'host_data = "{"ab" * 32}"'), ('id_key_digests = "any"', "id_key_digests = []"),
        ('author_key_digests = "any"', "author_key_digests = []"), ('chip_ids = "any"\ndenied', "chip_ids = []\ndenied"),
    ),
]  # fmt: skip


@pytest.mark.parametrize("name", SnpClaims._fields)
@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_change_of_any_claim_reaches_every_rule(name: str, document: Any) -> None:
    for claims in (GOOD, verified(**{name: other(name)}).snp):
        references = (ReferenceValue("web", Platform.SEV_SNP, GOOD.measurement, NOW),)
        of = Appraisal(claims, document.snp, Platform.SEV_SNP, document, ReferenceSet(references), NOW)
        assert SNP.run(of) == Results.of(rule(of) for rule in SNP_CHECKS)
        assert SNP.run(of) == Results.of(rule(of) for rule in SNP_CHECKS), "and once more, remembered"


def test_words_left_for_later_are_made_once_and_are_those_of_the_rule() -> None:
    document = DOCUMENTS[0]
    of = Appraisal(GOOD, document.snp, Platform.SEV_SNP, document, ReferenceSet(), NOW)
    made: list[str] = []

    def rule(of: Appraisal[Any, Any]) -> Check:
        made.append(of.claims.host_data.hex())
        return Check("late", "", made[-1], IGNORED, "")

    results = Results(Known((Check("late", "", "", FAIL, ""),), frozenset(), 0, 0, later=((0, rule),)), of=of)
    assert not made
    assert results.checks == results.checks == (Check("late", "", "00" * 32, IGNORED, ""),)
    assert len(made) == 1


@pytest.mark.parametrize("outcome", [PASS, FAIL])
def test_a_rule_that_compares_is_never_taken_for_one_that_does_not(outcome: str) -> None:
    later = ((0, lambda _: Check("late", "", "", outcome, "")),)
    results = Results(Known((Check("late", "", "", FAIL, ""),), frozenset(), 1, 0, later=later), of=GOOD)
    with pytest.raises(RuntimeError, match=f"late was taken for ignored, and is {outcome}"):
        _ = results.checks


@pytest.mark.parametrize("outcome", [PASS, FAIL, IGNORED])
def test_an_outcome_known_before_its_words_counts_at_once(outcome: str) -> None:
    made: list[str] = []

    def rule(_: object) -> Check:
        made.append("words")
        return Check("soon", "", "", outcome, "")

    pending = Check("soon", "", "", FAIL, "")
    results = Results(Known((pending,), frozenset(), 0, 0, soon=((0, rule, "soon", lambda _: outcome),)), of=GOOD)
    counted = (results.passed, len(results.failed), results.ignored)
    assert counted == (outcome == PASS, outcome == FAIL, outcome == IGNORED)
    assert results.failed <= {"soon"}
    assert not made
    assert results.checks == results.checks == (Check("soon", "", "", outcome, ""),)
    assert made == ["words"]


def test_words_that_contradict_an_outcome_known_before_them_are_our_mistake() -> None:
    soon = ((0, lambda _: Check("soon", "", "", FAIL, ""), "soon", lambda _: PASS),)
    results = Results(Known((Check("soon", "", "", FAIL, ""),), frozenset(), 0, 0, soon=soon), of=GOOD)
    with pytest.raises(RuntimeError, match="soon was taken for pass, and is fail"):
        _ = results.checks

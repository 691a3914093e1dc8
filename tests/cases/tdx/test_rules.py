"""Appraisal refuses each case for the rule it is about and for no other, and every rule about quotes has a case."""

from __future__ import annotations

import pytest

from policy.checks import run_checks
from policy.decide import decide
from policy.document import parse_policy
from policy.reference_set import ReferenceSet
from tests.cases.tdx.inputs import verify_inputs
from tests.cases.tdx.rules import NOT_EXPORTED, QuoteRuleCase, quote_rule_cases
from tests.fakes.intel_claims import enclave, td
from tests.fakes.intel_pki import NOW

CASES = quote_rule_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rules[0])
def test_only_that_rule_refuses(case: QuoteRuleCase) -> None:
    inputs = case.inputs()
    (root,) = inputs.anchors.test_roots
    document = parse_policy(case.policy(f"test:{root.spki_sha256.hex()}").encode())
    failed = decide(verify_inputs(inputs, document), document, (), now=NOW).failed
    assert tuple(check.id for check in failed) == case.rules


def test_every_rule_about_quotes_has_a_case() -> None:
    known = set()
    for case, claims in ((CASES[0], td()), (CASES[-1], enclave())):
        document = parse_policy(case.policy(f"test:{'00' * 32}").encode())
        known |= {check.id for check in run_checks(claims, document, ReferenceSet(), NOW).checks}
    assert {rule for case in CASES for rule in case.rules} == known - NOT_EXPORTED

"""Remembered results of rules about TDs and enclaves are those the rules give, and every claim reaches a rule."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Any

import pytest

from policy.check import Appraisal
from policy.document import PolicyDocument
from policy.measured import MeasuredEvent
from policy.reference_set import ReferenceSet
from policy.results import Results
from policy.sgx_checks import SGX, SGX_CHECKS
from policy.sgx_rules import SgxRules
from policy.tdx import TcbStatus
from policy.tdx_checks import TDX, TDX_CHECKS
from policy.tdx_rules import TdxRules
from policy.vocab import Platform
from tests.fakes.intel_claims import ENCLAVE, NOW, TD, changed
from tests.unit.policy.test_eventlog_checks import policy as with_log
from tests.unit.policy.test_sgx_checks import OURS
from tests.unit.policy.test_sgx_checks import policy as sgx_policy
from tests.unit.policy.test_tdx_checks import REFERENCE, policy

EVENTS = (MeasuredEvent(2, 6, b"\1" * 48, "initrd"),)
OTHER: dict[str, Any] = {
    "body": "1.5", "root": "test:" + "0" * 64, "revocation": "stale", "ca": "processor", "extended": (("vmid", "01"),),
    "rtmrs": (b"\1" * 48,) * 4, "events": EVENTS, "tee_tcb_svn2": b"\1" * 16, "mrservicetd": b"\1" * 48, "module": None,
    "running": TcbStatus.OUT_OF_DATE, "behind_since": NOW - timedelta(days=3), "advisory_ids": ("INTEL-SA-00001",),
    "components": (0,) * 16, "pck_crl_number": None, "root_crl_number": None,
}  # fmt: skip
NOT_COMPARED = {
    "pck.cpusvn", "qe.mrsigner", "qe.user_data", "tcb.pck_crl_number", "tcb.root_crl_number", "cpusvn",
}  # fmt: skip
"""Named as comparisons that are not made, at the top of the modules with the rules."""


def leaves(claims: Any) -> list[str]:
    found = []
    for name, value in claims._asdict().items():
        found += [f"{name}__{field}" for field in getattr(value, "_fields", ())] or [name]
    return found


def other(claims: Any, name: str) -> Any:
    """Another value for a claim."""
    part, _, field = name.partition("__")
    value = getattr(getattr(claims, part), field) if field else getattr(claims, part)
    if (field or part) in OTHER:
        return OTHER[field or part] if value != OTHER[field or part] else TcbStatus.UP_TO_DATE
    if isinstance(value, bool):
        return not value
    if isinstance(value, Enum):
        return TcbStatus.OUT_OF_DATE
    if isinstance(value, datetime):
        return value - timedelta(days=40)
    return type(value)(value + 1) if isinstance(value, int) else type(value)(bytes(byte ^ 0xFF for byte in value))


TD_DOCUMENTS = [policy(), with_log(), policy(('OutOfDate = "refuse"', "OutOfDate = 30"))]
SGX_DOCUMENTS = [sgx_policy(), sgx_policy(OURS, ('OutOfDate = "refuse"', "OutOfDate = 30"))]


def of_td(claims: Any, document: PolicyDocument) -> Appraisal[Any, TdxRules]:
    assert document.tdx is not None
    return Appraisal(claims, document.tdx, Platform.TDX, document, ReferenceSet((REFERENCE,)), NOW)


def of_enclave(claims: Any, document: PolicyDocument) -> Appraisal[Any, SgxRules]:
    assert document.sgx is not None
    return Appraisal(claims, document.sgx, Platform.SGX, document, ReferenceSet(), NOW)


@pytest.mark.parametrize("name", leaves(TD))
def test_a_change_of_any_claim_of_a_td_reaches_every_rule(name: str) -> None:
    for document in TD_DOCUMENTS:
        for claims in (TD, changed(TD, **{name: other(TD, name)})):
            of = of_td(claims, document)
            assert TDX.run(of) == Results.of(rule(of) for rule in TDX_CHECKS)
            assert TDX.run(of) == Results.of(rule(of) for rule in TDX_CHECKS), "and once more, remembered"


@pytest.mark.parametrize("name", leaves(ENCLAVE))
def test_a_change_of_any_claim_of_an_enclave_reaches_every_rule(name: str) -> None:
    for document in SGX_DOCUMENTS:
        for claims in (ENCLAVE, changed(ENCLAVE, **{name: other(ENCLAVE, name)})):
            of = of_enclave(claims, document)
            assert SGX.run(of) == Results.of(rule(of) for rule in SGX_CHECKS)
            assert SGX.run(of) == Results.of(rule(of) for rule in SGX_CHECKS), "and once more, remembered"


LATE: dict[str, Any] = {"tcb__status": TcbStatus.OUT_OF_DATE, "tcb__behind_since": NOW - timedelta(days=1)}


@pytest.mark.parametrize("name", leaves(TD))
def test_every_claim_of_a_td_is_seen_by_some_rule_or_named_as_not_compared(name: str) -> None:
    seen = False
    for document in TD_DOCUMENTS:
        for claims in (TD, changed(TD, **LATE)):
            before, after = of_td(claims, document), of_td(changed(claims, **{name: other(claims, name)}), document)
            seen |= TDX.run(before) != TDX.run(after)
    assert seen is (name.replace("__", ".") not in NOT_COMPARED)


@pytest.mark.parametrize("name", leaves(ENCLAVE))
def test_every_claim_of_an_enclave_is_seen_by_some_rule_or_named_as_not_compared(name: str) -> None:
    seen = False
    for document in SGX_DOCUMENTS:
        for claims in (ENCLAVE, changed(ENCLAVE, **LATE)):
            before = of_enclave(claims, document)
            after = of_enclave(changed(claims, **{name: other(claims, name)}), document)
            seen |= SGX.run(before) != SGX.run(after)
    assert seen is (name.replace("__", ".") not in NOT_COMPARED)


def test_what_depends_on_the_clock_or_on_reference_values_is_not_remembered() -> None:
    document = TD_DOCUMENTS[2]
    late = changed(TD, tcb__status=TcbStatus.OUT_OF_DATE, tcb__behind_since=NOW - timedelta(days=29))
    assert document.tdx is not None
    for days in (0, 5, 40):
        for references in ((REFERENCE,), ()):
            now = NOW + timedelta(days=days)
            of = Appraisal(late, document.tdx, Platform.TDX, document, ReferenceSet(references), now)
            assert TDX.run(of) == Results.of(rule(of) for rule in TDX_CHECKS)

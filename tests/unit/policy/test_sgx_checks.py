"""Each rule about an enclave has a case in which only that rule fails."""

from __future__ import annotations

from typing import Any

import pytest

from policy.checks import SGX_CHECKS
from policy.decide import decide
from policy.document import PolicyDocument, PolicyInvalid, parse_policy
from policy.tdx import SgxAttributes, TcbStatus, Xfam
from policy.vocab import Platform
from tests.fakes.intel_claims import ENCLAVE, NOW, enclave
from tests.unit.policy.test_tdx_checks import STRICT

OURS = ("mrenclaves = []", f'mrenclaves = ["{ENCLAVE.mrenclave.hex()}"]')
SIGNER = (
    "\n[sgx.platform]",
    f'\n[[sgx.signer]]\nmrsigner = "{"77" * 32}"\nisvprodid = 7\nisvsvn_min = 3\nreason = "ours"\n\n[sgx.platform]',
)


def policy(*changes: tuple[str, str]) -> PolicyDocument:
    """The strict policy with words of its [sgx] tables replaced."""
    head, sgx, rest = STRICT.partition("\n[sgx]\n")
    for old, new in changes:
        assert old in rest, old
        rest = rest.replace(old, new, 1)
    return parse_policy((head + sgx + rest).encode())


def failed(document: PolicyDocument | None = None, **changes: Any) -> list[str]:
    return [check.id for check in decide(enclave(**changes), document or policy(OURS), (), now=NOW).failed]


def test_a_listed_enclave_is_affirmed_and_every_rule_runs() -> None:
    decision = decide(enclave(), policy(OURS), (), now=NOW)
    assert decision.affirming, decision.failed
    assert len(decision.checks) == len(SGX_CHECKS)
    assert decision.trust_vector["executables"] == 3


def test_the_strict_policy_as_shipped_accepts_no_enclave() -> None:
    assert failed(policy()) == ["sgx.identity"]


def test_a_signers_enclave_is_accepted_if_product_and_version_fit() -> None:
    document = policy(SIGNER)
    assert failed(document, mrenclave=bytes(32)) == failed(document, isvsvn=4) == []
    assert (
        failed(document, isvsvn=2)
        == failed(document, isvprodid=8)
        == failed(document, mrsigner=bytes(32))
        == ["sgx.identity"]
    )


CASES: list[tuple[str, dict[str, Any]]] = [
    ("trust.root", {"root": "amd"}),
    ("sgx.revocation", {"revocation": "stale"}),
    ("sgx.tcb.status", {"tcb__status": TcbStatus.SW_HARDENING_NEEDED}),
    ("sgx.quote-version", {"version": 6}),
    ("sgx.identity", {"mrenclave": bytes(32)}),
    ("sgx.attributes.debug", {"attributes": SgxAttributes(0x7)}),
    ("sgx.attributes.provision-key", {"attributes": SgxAttributes(0x15)}),
    ("sgx.xfrm", {"xfrm": Xfam(0xE7 | 1 << 16)}),
    ("sgx.xfrm-required", {"xfrm": Xfam(1)}),
    ("sgx.configid", {"configid": b"\1" * 64}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "changes"), CASES)
def test_an_enclave_is_refused_for_one_reason(rule: str, changes: dict[str, Any]) -> None:
    assert failed(**changes) == [rule]


OPTIONS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("sgx.attributes", '\nattributes = "any"', '\nattributes = "0x4/0x4f"', {"attributes": SgxAttributes(0x4)}),
    ("sgx.miscselect", 'miscselect = "any"', 'miscselect = "0x1/0xffffffff"', {"miscselect": 1}),
    ("sgx.configsvn", "configsvn_min = 0", "configsvn_min = 2", {"configsvn": 2}),
    ("sgx.isvextprodid", 'isvextprodid = "any"', f'isvextprodid = ["{"ab" * 16}"]', {"isvextprodid": b"\xab" * 16}),
    ("sgx.isvfamilyid", 'isvfamilyid = "any"', f'isvfamilyid = ["{"ab" * 16}"]', {"isvfamilyid": b"\xab" * 16}),
    ("sgx.report-data", 'report_data = "ignore"', f'report_data = "{"ab" * 64}"', {"report_data": b"\xab" * 64}),
]


@pytest.mark.parametrize(("rule", "old", "new", "good"), OPTIONS)
def test_an_optional_rule_refuses_what_it_names_and_nothing_else(
    rule: str, old: str, new: str, good: dict[str, Any]
) -> None:
    document = policy(OURS, (old, new))
    assert failed(document) == [rule]
    assert failed(document, **good) == []


def test_a_document_of_enclaves_alone_has_no_measurement_table() -> None:
    text = (
        'schema = 1\nname = "e"\ndescription = ""\n[trust]\nroots = ["intel"]\n[sgx]\n'
        + STRICT.partition("\n[sgx]\n")[2]
    )
    assert parse_policy(text.encode()).snp is None
    with pytest.raises(PolicyInvalid, match="says nothing without"):
        parse_policy((text + '\n[measurement]\naccept = "registered"\n').encode())
    with pytest.raises(PolicyInvalid, match="want a table for at least one kind of evidence"):
        parse_policy(text.partition("[sgx]")[0].encode())


def test_an_emulated_enclave_is_named_emulated() -> None:
    decision = decide(enclave(Platform.EMULATED_SGX, root="test:" + "0" * 64), policy(OURS), (), now=NOW)
    assert decision.emulated
    assert [check.id for check in decision.failed] == ["trust.root"]

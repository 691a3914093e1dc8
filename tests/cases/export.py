"""The cases as one JSON file that other verifiers can run: ``python -m tests.cases.export FILE``.

``{"schema": "cvm.cases/1", "cases": [{"id", "description", "clause", "inputs": {…}, "expected": {…}}]}``

``inputs``: ``evidence`` is an SNP report, an Intel quote, or a quote and its event log as the KBS protocol sends them;
``certificates`` and ``crls`` are DER; ``tcb_infos`` and ``qe_identities`` are Intel's answers as served, empty for AMD;
all of these and ``trusted_roots`` are base64. The certificates of an SNP report come with it; those of a quote are
inside, and ``certificates`` holds Intel's issuers. ``at`` is RFC 3339; ``expected_report_data`` is base64 or null;
``policy`` is the TOML of an appraisal policy or null. ``expected``: ``outcome`` (genuine, malformed, failed, denied,
unavailable), the ``code`` of our command, the verification ``step`` that must notice, and the ids of the checks that
fail under the policy.

Every case is broken in one place. Keys are made anew on every run, so two files differ in every signature.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from policy.snp import SigningKey
from policy.vocab import SnpProduct
from tests.cases.snp.cases import CASES, Case
from tests.cases.snp.malformed import MalformedCase, malformed_cases
from tests.cases.snp.rules import RuleCase, rule_cases
from tests.cases.tdx import cases as quotes
from tests.cases.tdx.malformed import MalformedCase as MalformedQuote
from tests.cases.tdx.malformed import malformed_cases as malformed_quotes
from tests.cases.tdx.rules import QuoteRuleCase, quote_rule_cases
from tests.fakes.amd_pki import FakeAmdPki, Inputs
from tests.fakes.intel_pki import FakeIntelPki, QuoteInputs

SCHEMA = "cvm.cases/1"
QUOTES = ((3, "sgx"), (4, "sgx"), (5, "sgx"), (4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5-extended"))
_OUTCOMES = {"verification": "failed", "evidence": "malformed", "endorsement": "unavailable"}


def document() -> dict[str, Any]:
    """The whole file."""
    return {"schema": SCHEMA, "about": (__doc__ or "").split("\n\n", 2)[2], "cases": list(_cases())}


def _cases() -> Iterator[dict[str, Any]]:
    yield from _genuine()
    for broken in malformed_cases():
        yield _malformed(broken)
    for case in CASES:
        yield _failed(case)
    for number, rule in enumerate(rule_cases()):
        yield _denied(rule, number)
    yield from _genuine_quotes()
    for quote in malformed_quotes():
        yield _malformed(quote)
    for wrong in quotes.CASES:
        yield _failed_quote(wrong)
    for number, refused in enumerate(quote_rule_cases()):
        yield _denied_quote(refused, number)


def _genuine() -> Iterator[dict[str, Any]]:
    for product in SnpProduct:
        for kind in (SigningKey.VCEK, SigningKey.VLEK):
            world = FakeAmdPki(product=product, kind=kind)
            yield _good(f"genuine-{product.value}-{kind.name}".lower(), world)
    for version in (2, 3, 4, 5):
        cpuid = {"cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0} if version == 2 else {}
        yield _good(f"genuine-version-{version}", FakeAmdPki(report={"version": version, **cpuid}))


def _good(name: str, world: FakeAmdPki) -> dict[str, Any]:
    inputs = world.inputs(crls=[world.crl()], expected_report_data=b"\x5a" * 64)
    return _case(name, "everything is right", "AMD 56860; AMD 57230; RFC 5280", inputs, ("genuine", "genuine"))


def _genuine_quotes() -> Iterator[dict[str, Any]]:
    for version, layout in QUOTES:
        for ca in ("PLATFORM_CA", "PROCESSOR_CA"):
            name = f"genuine-quote-{version}-{layout.replace('.', '-')}-{_dashed(ca.lower())}"
            inputs = FakeIntelPki(version=version, layout=layout, ca=ca).inputs(report_data=b"\x22" * 64)
            yield _case(
                name, "everything is right", f"{quotes.QUOTE}; {quotes.PKI}; {quotes.PCS}", inputs, ("genuine",) * 2
            )


def _malformed(case: MalformedCase | MalformedQuote) -> dict[str, Any]:
    return _case(
        f"malformed-{_dashed(case.name)}", _words(case.name), case.clause, case.inputs(), ("malformed", case.code)
    )


def _failed(case: Case) -> dict[str, Any]:
    """The attempt is made with ``verify`` replaced by ``inputs``, so that it hands out what it would have verified."""
    with patch.object(FakeAmdPki, "verify", FakeAmdPki.inputs):
        inputs = case.attempt()
    if not isinstance(inputs, Inputs):
        raise TypeError(f"{case.name}: the attempt does not end in FakeAmdPki.verify")
    found = _case(
        f"failed-{_dashed(case.name)}", _words(case.name), case.clause, inputs, ("failed", f"verification.{case.step}")
    )
    found["expected"]["step"] = case.step
    return found


def _denied(case: RuleCase, number: int) -> dict[str, Any]:
    inputs = case.inputs()
    (root,) = inputs.anchors.test_roots
    text = case.policy(f"test:{root.spki_sha256.hex()}")
    code = "policy.denied" if case.outcome == "denied" else "endorsement.crl"
    name = f"denied-{number:02}-{case.rule.replace('.', '-')}"
    found = _case(name, f"the rule {case.rule} refuses", f"policy rule {case.rule}", inputs, (case.outcome, code))
    found["inputs"]["policy"] = text
    found["expected"]["failed_checks"] = [case.rule]
    return found


def _failed_quote(case: quotes.Case) -> dict[str, Any]:
    """As :func:`_failed`; the code says which kind of refusal it is."""
    with patch.object(FakeIntelPki, "verify", FakeIntelPki.inputs):
        inputs = case.attempt()
    if not isinstance(inputs, QuoteInputs):
        raise TypeError(f"{case.name}: the attempt does not end in FakeIntelPki.verify")
    kind, _, step = case.code.partition(".")
    found = _case(f"failed-{_dashed(case.name)}", _words(case.name), case.clause, inputs, (_OUTCOMES[kind], case.code))
    found["expected"]["step"] = step if kind == "verification" else None
    return found


def _denied_quote(case: QuoteRuleCase, number: int) -> dict[str, Any]:
    inputs = case.inputs()
    (root,) = inputs.anchors.test_roots
    rules = ", ".join(case.rules)
    code = "policy.denied" if case.outcome == "denied" else "endorsement.crl"
    name = f"denied-quote-{number:03}-{case.rules[0].replace('.', '-')}"
    found = _case(name, f"refused by {rules}", f"policy rule {rules}", inputs, (case.outcome, code))
    found["inputs"]["policy"] = case.policy(f"test:{root.spki_sha256.hex()}")
    found["expected"]["failed_checks"] = list(case.rules)
    return found


def _case(
    name: str, description: str, clause: str, inputs: Inputs | QuoteInputs, expected: tuple[str, str]
) -> dict[str, Any]:
    outcome, code = expected
    quote = inputs if isinstance(inputs, QuoteInputs) else None
    return {
        "id": name,
        "description": description,
        "clause": clause,
        "inputs": {
            "evidence": _text(inputs.report if isinstance(inputs, Inputs) else inputs.evidence),
            "certificates": [_text(item) for item in inputs.certificates],
            "crls": [_text(item) for item in inputs.crls],
            "tcb_infos": [] if quote is None else [_text(item) for item in quote.tcb_infos],
            "qe_identities": [] if quote is None else [_text(item) for item in quote.qe_identities],
            "trusted_roots": [_text(item.der) for item in inputs.anchors.test_roots],
            "at": inputs.now.isoformat(),
            "expected_report_data": None if inputs.expected_report_data is None else _text(inputs.expected_report_data),
            "policy": None,
        },
        "expected": {"outcome": outcome, "code": code, "step": None, "failed_checks": []},
    }


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _words(name: str) -> str:
    return name.replace("_", " ")


def main() -> int:
    """Write the file named on the command line, or standard output."""
    text = json.dumps(document(), indent=1) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Rego's word on a guest and on a resource, as checks beside those of the tables: it can refuse, never accept alone.

An attestation policy gives AR4SI claims (``trust_claims``, or rules of their names). Each of the three Trustee asks for
must be there; whatever is below affirming, of another type, or undefined fails its check. A resource policy must answer
``true``, not anything else. Where nothing can be evaluated, nothing is decided (RegoUnavailable).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attest.broker.rego_engine import HERE, Question, RegoFailed, Undefined
from attest.broker.rego_input import evidence_input
from policy.checks import FAIL, PASS, Check
from policy.claims import VerifiedClaims
from policy.decide import AFFIRMING, CONTRAINDICATED, Decision
from policy.document import PolicyDocument
from policy.rego_rules import RegoRules
from policy.vocab import ResourcePath

CLAUSE = "[rego] attestation"
NEEDED = ("executables", "hardware", "configuration")
NAMES = (
    *NEEDED, "file-system", "instance-identity", "runtime-opaque", "storage-opaque", "sourced-data",
)  # fmt: skip
_AFFIRMING = range(2, 32)
_NOTHING_SAID = (0, 1)
_EVIDENCE, _TEES = "ear.veraison.annotated-evidence", ("snp", "tdx")


def with_rego(claims: VerifiedClaims, decision: Decision, document: PolicyDocument) -> Decision:
    """``decision`` with what the document's attestation policy says. Raises RegoUnavailable."""
    rules = document.rego
    if rules is None or rules.attestation is None:
        return decision
    try:
        found = HERE.evaluate(Question(rules.attestation, "data.policy", _data(rules), evidence_input(claims.tee)))
    except RegoFailed as exc:
        found = exc
    checks, vector = _checks(found), dict(decision.trust_vector)
    for name, value in _claims(found).items():
        if name in vector:
            vector[name] = max(vector[name], value, key=_severity) if isinstance(value, int) else 99
    good = decision.affirming and all(check.outcome == PASS for check in checks)
    verdict = AFFIRMING if good else CONTRAINDICATED
    return decision._replace(results=decision.results + checks, verdict=verdict, trust_vector=vector)


def resource_refused(document: PolicyDocument, path: ResourcePath, token: Mapping[str, Any], issuer: str) -> str | None:
    """Why the document's resource policy does not release ``path``; ``None`` where it does or there is none.

    ``token`` are the claims of the guest's attestation result, as a token of ours has them. Raises RegoUnavailable.
    """
    rules = document.rego
    if rules is None or rules.resource is None:
        return None
    data = {"plugin": "resource", "resource-path": path.split("/"), "query": {}, **_data(rules)}
    try:
        allowed = HERE.evaluate(Question(rules.resource, "data.policy.allow", data, _context(token, issuer)))
    except RegoFailed as exc:
        return exc.message
    return None if allowed is True else f"data.policy.allow is {_shown(allowed)}"


def _data(rules: RegoRules) -> dict[str, Any]:
    return {"cvm": {"reference_values": dict(rules.reference_values)}}


def _context(token: Mapping[str, Any], issuer: str) -> dict[str, Any]:
    """The token's claims, and the summary of them that later releases of Trustee put beside."""
    modules = token["submods"].values()
    summary = {
        "tee_type": [name for module in modules for name in _TEES if name in module[_EVIDENCE]],
        "policy_ids": [module["ear.appraisal-policy-id"] for module in modules],
        "issuer": issuer,
        "verification_result": all(module["ear.status"] == AFFIRMING for module in modules),
        "claims": dict(token),
    }
    return {**token, "trust_context": {"attestation_summary": summary}}


def _claims(found: object) -> dict[str, object]:
    """AR4SI claims by their hyphened names; empty for what is no policy's answer."""
    if not isinstance(found, dict):
        return {}
    claims = found.get("trust_claims", {name: found[key] for name in NAMES for key in _keys(name) if key in found})
    return {name: claims[name] for name in NAMES if name in claims} if isinstance(claims, dict) else {}


def _keys(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((name, name.replace("-", "_"))))


def _checks(found: object) -> tuple[Check, ...]:
    if isinstance(found, RegoFailed):
        return (Check("rego.evaluation", "an answer", found.message, FAIL, CLAUSE),)
    claims = _claims(found)
    names = [name for name in NAMES if name in claims or name in NEEDED]
    return tuple(_check(name, claims.get(name), needed=name in NEEDED) for name in names)


def _check(name: str, value: object, *, needed: bool) -> Check:
    good = type(value) is int and (value in _AFFIRMING or (value in _NOTHING_SAID and not needed))
    wanted = "2..31" if needed else "0, 1 or 2..31"
    return Check(f"rego.{name}", wanted, _shown(value), PASS if good else FAIL, CLAUSE)


def _severity(value: int) -> tuple[int, int]:
    """Nothing said, affirming, warning, contraindicated (draft-ietf-rats-ar4si, section 2.3.2)."""
    size = abs(value)
    return (0 if size < 2 else 1 if size < 32 else 2 if size < 96 else 3, value)


def _shown(value: object) -> str:
    return "undefined" if value is None or isinstance(value, Undefined) else str(value)[:60]

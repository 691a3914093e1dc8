"""``attest evidence verify``: one report, what came with it, folders of collateral, and with --online AMD's service.

The JSON form is a contract (schema ``attest.evidence.verify/1``); every member is always present.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from importlib import resources
from typing import Any, TypeVar

from attest.broker.appraise import revocation_unknown
from attest.cli.collateral_cache import anchors_with, source_of
from attest.cli.evidence_file import DENIED, EXIT, GENUINE, outcome_of, read_file, refuse
from attest.cli.evidence_text import printable, verify_text
from attest.collateral.clock import Budget
from attest.collateral.folder import load_collateral
from attest.collateral.published import published_authorities
from attest.collateral.supply import Supplier, most_helpful
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import RevocationUnknown
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.recognise import Evidence, parse_evidence, recognise
from attest.verifier.snp import verify_snp
from attest.verifier.vtpm import verify_hcl_nonce, verify_vtpm
from policy.checks import Check
from policy.claims import VerifiedClaims, claims_json
from policy.decide import Decision, decide
from policy.document import PolicyDocument, parse_policy
from policy.errors import CvmError
from policy.explain import failure_lines
from policy.reference import ReferenceValue, reference_from_bytes

SCHEMA = "attest.evidence.verify/1"
_MEASUREMENT = "measurement"
_T = TypeVar("_T")
_WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Result:
    """What is reported, filled in as far as verification came."""

    file: str
    kind: str = "unknown"
    outcome: str = GENUINE
    code: str = GENUINE
    message: str = ""
    claims: dict[str, object] = field(default_factory=dict)
    revocation: str = "not-checked"
    checks: tuple[Check, ...] = ()
    emulated: bool = False
    hint: str | None = None

    def as_json(self) -> dict[str, object]:
        """The contract's members; ``tcb_status`` and ``advisory_ids`` are Intel's and empty for AMD."""
        return {
            "schema": SCHEMA,
            "file": self.file,
            "kind": self.kind,
            "outcome": self.outcome,
            "code": self.code,
            "message": self.message,
            "emulated": self.emulated,
            "claims": self.claims,
            "tcb_status": None,
            "advisory_ids": [],
            "revocation": self.revocation,
            "checks": [
                {"id": item.id, "expected": item.expected, "actual": item.actual, "outcome": item.outcome}
                for item in self.checks
            ],
        }


@dataclass(frozen=True, slots=True)
class _Rules:
    """The policy to appraise with; ``binding`` says whether it decides or is only shown."""

    document: PolicyDocument
    references: tuple[ReferenceValue, ...]
    binding: bool


def verify(args: argparse.Namespace, now: datetime, today: datetime) -> int:
    """Verify ``args.file`` as of ``now``, print the result, and return the exit code. ``today`` is for the cache."""
    result = Result(str(args.file))
    try:
        rules = _rules(args)
        _verify_into(result, args, rules, (now, today))
    except CvmError as exc:
        outcome = outcome_of(exc)
        if outcome is None:  # the call is wrong, not the evidence
            return refuse(exc, as_json=args.json)
        result.outcome, result.code, result.message, result.hint = outcome, exc.code, exc.message, exc.hint
        if exc.code == "verification.revocation":
            result.revocation = "revoked"
    _write(result, as_json=args.json)
    return EXIT[result.outcome]


def _verify_into(result: Result, args: argparse.Namespace, rules: _Rules, times: tuple[datetime, datetime]) -> None:
    now, today = times
    data = read_file(args.file)
    pool = load_collateral(args.collateral, _warn) + published_authorities()
    anchors = anchors_with(args.root)
    result.kind = recognise(data)
    evidence = parse_evidence(data)
    pool = sent_endorsements(evidence) + pool
    if args.online:
        pool += _fetch_missing(evidence, pool, anchors, args, today)
    claims = _verify_report(evidence, pool, anchors, args, now)
    result.claims = claims_json(claims.snp)
    result.revocation, result.emulated = claims.snp.revocation, claims.emulated
    decision = decide(claims, rules.document, rules.references, now=now)
    result.checks = _shown(decision, rules)
    result.message = _genuine_message(claims)
    if args.require_crl and claims.snp.revocation != "good":
        raise RevocationUnknown(f"revocation: {claims.snp.revocation}, --require-crl wants a current list")
    unknown = revocation_unknown(claims, decision) if rules.binding else None
    if unknown is not None:
        raise unknown
    if rules.binding and not decision.affirming:
        result.outcome, result.code = DENIED, "policy.denied"
        result.message = f"policy {rules.document.name}: " + "; ".join(failure_lines(decision))


def _verify_report(
    evidence: Evidence, pool: EndorsementSet, anchors: TrustAnchors, args: argparse.Namespace, now: datetime
) -> VerifiedClaims:
    """The report, and what hangs on it: an HCL blob's variable data, a TPM quote."""
    challenge: bytes | None = args.nonce
    if evidence.hcl is None:
        expected = args.report_data if challenge is None else challenge.ljust(64, b"\0")
        return verify_snp(evidence.report, pool, anchors=anchors, now=now, expected_report_data=expected)
    # REPORT_DATA belongs to the paravisor here; a caller's own expectation must agree with the hash, not replace it.
    bound = evidence.hcl.expected_report_data
    claims = verify_snp(evidence.report, pool, anchors=anchors, now=now, expected_report_data=bound)
    if args.report_data is not None:
        claims = verify_snp(evidence.report, pool, anchors=anchors, now=now, expected_report_data=args.report_data)
    if evidence.vtpm is not None:
        verify_vtpm(evidence.vtpm, expected_challenge=challenge)
    elif challenge is not None:
        verify_hcl_nonce(evidence.hcl, challenge)
    return claims


def _fetch_missing(
    evidence: Evidence, have: EndorsementSet, anchors: TrustAnchors, args: argparse.Namespace, today: datetime
) -> EndorsementSet:
    """What AMD's service gives for the report. Raises the reason when no certificate could be had for it."""
    source = source_of(args, online=True)
    supplied = Supplier(source, anchors, today, Budget(source.clock, _WAIT_SECONDS)).supply(evidence.report, have)
    problem = most_helpful(supplied.problems)
    if problem is not None and not (have + supplied.endorsements).leaves:
        raise problem
    for item in supplied.problems:
        _warn(item.message)
    return supplied.endorsements


def sent_endorsements(evidence: Evidence) -> EndorsementSet:
    """What came with the evidence; another vendor's certificates are passed over, damaged ones are an error."""
    return EndorsementSet.of(
        _related(AmdCertificate.parse, evidence.certificates),
        _related(AmdCrl.parse, evidence.crls),
        with_evidence=True,
    )


def _related(parse: Callable[[bytes], _T], items: tuple[bytes, ...]) -> list[_T]:
    found: list[_T] = []
    for item in items:
        try:
            found.append(parse(item))
        except UnrelatedCertificate:
            continue
    return found


def _rules(args: argparse.Namespace) -> _Rules:
    """The caller's policy, or the shipped one, whose checks are then shown without deciding anything."""
    references = tuple(reference_from_bytes(read_file(path)) for path in args.reference)
    if args.policy is not None:
        return _Rules(parse_policy(read_file(args.policy)), references, binding=True)
    shipped = resources.files("policy").joinpath("documents", "strict.toml").read_bytes()
    return _Rules(parse_policy(shipped), references, binding=False)


def _shown(decision: Decision, rules: _Rules) -> tuple[Check, ...]:
    """All checks; without a policy the launch digest is compared only when the caller gave something to compare."""
    if rules.binding or rules.references:
        return decision.checks
    return tuple(check for check in decision.checks if check.id != _MEASUREMENT)


def _genuine_message(claims: VerifiedClaims) -> str:
    snp = claims.snp
    root = "AMD's root" if not claims.emulated else f"{snp.root}, which is not AMD's: EMULATED hardware"
    return f"genuine SNP report: {snp.product.value}, signed by a {snp.signing_key.name} under {root}"


def _warn(text: str) -> None:
    sys.stderr.write(printable(f"attest: collateral: {text}") + "\n")


def _write(result: Result, *, as_json: bool) -> None:
    body: Any = result.as_json()
    sys.stdout.write(json.dumps(body, indent=2) + "\n" if as_json else verify_text(body) + "\n")
    if result.outcome != GENUINE and not as_json:
        sys.stderr.write(printable(f"attest: {result.outcome}: {result.message}") + "\n")
        if result.hint:
            sys.stderr.write(f"  hint: {result.hint}\n")

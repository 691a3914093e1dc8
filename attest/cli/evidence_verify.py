"""``attest evidence verify FILE``: a report or quote, what came with it, folders of collateral, --online its maker too.

The JSON form is a contract (schema ``attest.evidence.verify/1``); every member is always present.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from typing import Any

from attest.cli.collateral_cache import anchors_with, source_of
from attest.cli.collateral_intel import fetch_for_quotes
from attest.cli.evidence_file import EXIT, GENUINE, read_file, refuse
from attest.cli.evidence_judge import Bench, Expected, Fetch, Result, Rules
from attest.cli.evidence_quote import QuoteJudge, intel_collateral_below, split_roots
from attest.cli.evidence_text import printable, verify_text
from attest.cli.policy_file import policy_bytes
from attest.collateral.clock import Budget
from attest.collateral.folder import load_collateral
from attest.collateral.published import published_authorities
from attest.collateral.supply import Supplier, most_helpful
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.pool import EndorsementSet
from attest.evidence.recognise import SnpEvidence
from attest.verifier.quote import QuoteVerifier
from attest.verifier.snp import SnpVerifier
from policy.document import parse_policy
from policy.errors import CvmError
from policy.reference import reference_from_bytes

_WAIT_SECONDS = 60.0


def verify(args: argparse.Namespace, now: datetime, today: datetime) -> int:
    """Verify ``args.file`` as of ``now``, print the result, and return the exit code. ``today`` is for the cache."""
    try:
        bench = bench_of(args, now, today)
        result = bench.judge(str(args.file), read_file(args.file))
    except CvmError as exc:
        return refuse(exc, as_json=args.json)
    _write(result, as_json=args.json)
    return EXIT[result.outcome]


def bench_of(args: argparse.Namespace, now: datetime, today: datetime) -> Bench:
    """What the options ask for. Raises :class:`CvmError` for files that are missing or wrong."""
    roots, intel = split_roots(args.root)
    anchors = anchors_with(roots)
    online = fetch_for_quotes(args, intel, today, _warn) if args.online else None
    return Bench(
        pool=load_collateral(args.collateral, _warn) + published_authorities(),
        verifier=SnpVerifier(anchors),
        rules=_rules(args),
        expected=Expected(args.nonce, args.report_data),
        now=now,
        fetch=_fetch(args, anchors, today) if args.online else None,
        quotes=QuoteJudge(intel_collateral_below(args.collateral, _warn), QuoteVerifier(intel), online),
    )


def _rules(args: argparse.Namespace) -> Rules:
    """The caller's policy, or the shipped one, whose checks are then shown without deciding anything."""
    references = tuple(reference_from_bytes(read_file(path)) for path in args.reference)
    name = "strict" if args.policy is None else str(args.policy)
    document = parse_policy(policy_bytes(name))
    return Rules(document, references, binding=args.policy is not None, require_crl=args.require_crl)


def _fetch(args: argparse.Namespace, anchors: TrustAnchors, today: datetime) -> Fetch:
    """What AMD's service gives for the report. Raises the reason when no certificate could be had for it."""
    source = source_of(args, online=True)

    def fetch(evidence: SnpEvidence, have: EndorsementSet) -> EndorsementSet:
        supplied = Supplier(source, anchors, today, Budget(source.clock, _WAIT_SECONDS)).supply(evidence.report, have)
        problem = most_helpful(supplied.problems)
        if (
            problem is not None
            and not have.offered
            and not (have + supplied.endorsements).fitting(evidence.report, None)
        ):
            raise problem
        for item in supplied.problems:
            _warn(item.message)
        return supplied.endorsements

    return fetch


def _warn(text: str) -> None:
    sys.stderr.write(printable(f"attest: collateral: {text}") + "\n")


def _write(result: Result, *, as_json: bool) -> None:
    body: Any = result.as_json()
    sys.stdout.write(json.dumps(body, indent=2) + "\n" if as_json else verify_text(body) + "\n")
    if result.outcome != GENUINE and not as_json:
        sys.stderr.write(printable(f"attest: {result.outcome}: {result.message}") + "\n")
        if result.hint:
            sys.stderr.write(f"  hint: {result.hint}\n")

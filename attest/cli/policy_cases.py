"""``attest policy test``: evidence files with the outcome each must have under a policy.

A case file (TOML, paths relative to it)::

    schema = 1
    collateral = ["collateral"]      # folders of certificates and lists, optional
    roots = ["ark.pem"]              # further trusted roots, for test PKIs, optional

    [[case]]
    name = "the web server boots"
    evidence = "web.bin"             # anything `attest evidence verify` reads
    references = ["web.json"]        # reference values in force, optional
    at = 2026-11-23T00:00:00Z        # the clock, optional: now
    expect = "accepted"              # or denied, failed, malformed, unavailable
    fails = ["snp.debug"]            # with "denied": exactly these checks, optional
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from attest.cli.collateral_cache import anchors_with
from attest.cli.common import print_json, print_text, progress, read_file
from attest.cli.evidence_file import read_file as read_evidence
from attest.cli.evidence_judge import Bench, Expected, Result, Rules
from attest.cli.evidence_quote import QuoteJudge, intel_collateral_below, split_roots
from attest.cli.policy_file import policy_bytes
from attest.collateral.folder import load_collateral
from attest.collateral.published import published_authorities
from attest.verifier.quote import QuoteVerifier
from attest.verifier.snp import SnpVerifier
from policy.document import PolicyDocument, parse_policy
from policy.errors import ConfigInvalid
from policy.reference import reference_from_bytes
from policy.table import Problems, Table
from policy.toml import TomlInvalid, strict_toml

ACCEPTED = "accepted"
_EXPECT = (ACCEPTED, "denied", "failed", "malformed", "unavailable")
PASSED, DIFFERS = 0, 6


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation; ``fails`` is ``None`` where any check may be the one that fails."""

    name: str
    evidence: Path
    references: tuple[Path, ...]
    at: datetime | None
    expect: str
    fails: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Cases:
    """A case file."""

    collateral: tuple[Path, ...]
    roots: tuple[Path, ...]
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case got. ``problem`` is empty where it is what was expected."""

    case: Case
    got: str
    fails: tuple[str, ...]
    problem: str


def run_cases(args: Namespace) -> int:
    """6 where a case differs, else 0."""
    document = parse_policy(policy_bytes(args.file))
    now = datetime.now(UTC)
    found = [outcome for path in args.cases for outcome in _run(read_cases(path), document, now)]
    bad = [outcome for outcome in found if outcome.problem]
    if args.json:
        rows = [
            {"name": item.case.name, "expect": item.case.expect, "got": item.got, "fails": list(item.fails),
             "problem": item.problem or None}
            for item in found
        ]  # fmt: skip
        print_json({"schema": "attest.policy.test/1", "policy": document.name, "cases": rows, "differ": len(bad)})
    else:
        for item in found:
            print_text(f"{'DIFFERS' if item.problem else 'ok     '} {item.case.name}: {item.problem or item.got}")
        print_text(f"policy {document.name}: {len(found)} cases, {len(bad)} differ")
    return DIFFERS if bad else PASSED


def read_cases(path: Path) -> Cases:
    """A case file. Raises ConfigInvalid with every problem."""
    problems = Problems()
    try:
        root = Table(strict_toml(read_file(path, "cases")), problems)
    except TomlInvalid as exc:
        raise ConfigInvalid(str(path), (f"$: {exc.message}",)) from None
    if root.value("schema", int) not in (None, 1):
        root.problem("schema", "want 1")
    folder = path.absolute().parent
    collateral, roots = (_paths(root, name, folder) for name in ("collateral", "roots"))
    cases = tuple(_case(table, folder) for table in root.tables("case"))
    if not cases:
        root.problem("case", "want at least one: a test of nothing passes")
    root.finish()
    if problems.found:
        raise ConfigInvalid(str(path), tuple(problems.found))
    return Cases(collateral, roots, cases)


def _case(table: Table, folder: Path) -> Case:
    at = table.value("at", datetime) if table.has("at") else None
    if at is not None and at.tzinfo is None:
        table.problem("at", "want a time with a zone, such as 2026-11-23T00:00:00Z")
    expect = table.choice("expect", _EXPECT) or ""
    fails = table.strings("fails") if table.has("fails") else None
    if fails is not None and expect != "denied":
        table.problem("fails", 'only with expect = "denied"')
    case = Case(
        name=table.value("name", str) or "",
        evidence=folder / (table.value("evidence", str) or ""),
        references=_paths(table, "references", folder),
        at=at,
        expect=expect,
        fails=fails,
    )
    table.finish()
    return case


def _paths(table: Table, key: str, folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in table.strings(key, ()))


def _run(cases: Cases, document: PolicyDocument, now: datetime) -> list[Outcome]:
    others, intel = split_roots(cases.roots)
    pool = load_collateral(cases.collateral, _warn) + published_authorities()
    quotes = QuoteJudge(intel_collateral_below(cases.collateral, _warn), QuoteVerifier(intel))
    verifier = SnpVerifier(anchors_with(others))
    outcomes = []
    for case in cases.cases:
        references = tuple(reference_from_bytes(read_evidence(path)) for path in case.references)
        rules = Rules(document, references, binding=True)
        bench = Bench(pool, verifier, rules, Expected(), case.at or now, quotes=quotes)
        outcomes.append(_compare(case, bench.judge(case.name, read_evidence(case.evidence))))
    return outcomes


def _compare(case: Case, result: Result) -> Outcome:
    got = ACCEPTED if result.outcome == "genuine" else result.outcome
    fails = () if result.decision is None else tuple(check.id for check in result.decision.failed)
    problem = ""
    if got != case.expect:
        problem = f"expected {case.expect}, got {got}" + (f": {result.message}" if result.message else "")
    elif case.fails is not None and set(fails) != set(case.fails):
        problem = f"expected to fail {', '.join(case.fails) or 'nothing'}; failed {', '.join(fails)}"
    return Outcome(case, got, fails, problem)


def _warn(text: str) -> None:
    progress(f"attest: collateral: {text}")

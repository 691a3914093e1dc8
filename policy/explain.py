"""A decision in words and in JSON, built from the very checks that decided, so the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Mapping

from policy.checks import FAIL, IGNORED, PASS
from policy.decide import Decision


def decision_json(decision: Decision) -> dict[str, object]:
    """As JSON values, every check included; ``warnings`` only where there are some."""
    found: dict[str, object] = {
        "verdict": decision.verdict,
        "policy": decision.policy_name,
        "emulated": decision.emulated,
        "trust_vector": dict(decision.trust_vector),
        "checks": [
            {"id": name, "expected": expected, "actual": actual, "outcome": outcome, "clause": clause}
            for name, expected, actual, outcome, clause in decision.checks
        ],
    }
    return found | {"warnings": list(decision.warnings)} if decision.warnings else found


def summary(decision: Decision) -> str:
    """One line: verdict, counts and warnings; says ``emulated`` where the hardware was."""
    passed, failed = decision.results.passed, len(decision.results.failed)
    text = f"{decision.verdict}, {passed} of {passed + failed} checks passed"
    text += f", {decision.results.ignored} left out by policy {decision.policy_name}"
    text += " (emulated hardware)" if decision.emulated else ""
    return text + "".join(f"; {warning}" for warning in decision.warnings)


def failure_lines(decision: Decision) -> tuple[str, ...]:
    """One line per failed check: ``measurement: expected 7c41…, got 11d0…``."""
    return tuple(f"{check.id}: expected {check.expected}, got {check.actual}" for check in decision.failed)


def check_line(check: Mapping[str, str]) -> str:
    """One check of :func:`decision_json` as a person reads it: ``FAIL snp.vmpl  1 (want 0)``."""
    mark = {PASS: "ok  ", FAIL: "FAIL"}.get(check["outcome"], "  - ")
    wanted = check["expected"] if check["outcome"] == IGNORED else f"want {check['expected']}"
    return f"{mark} {check['id']:<30} {check['actual']} ({wanted})"

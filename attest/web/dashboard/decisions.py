"""Decisions: the list, and one with every check, the picture of its measurement and the events of its log."""

from __future__ import annotations

from typing import Any

from attest.audit.record import DECISION, REFUSED_RELEASE, RELEASE
from attest.store import checkpoints
from attest.store import decisions as stored_decisions
from attest.web.dashboard.house import Ask
from attest.web.dashboard.launch import launch_of
from attest.web.dashboard.lookup import (
    ACCEPTED,
    DENIED,
    NOT_GENUINE,
    RESULTS,
    UNAVAILABLE,
    before_of,
    of_kind,
    page_of,
    record_of,
    result_of,
    rows,
)
from attest.web.dashboard.records import lines_of
from policy.decide import AFFIRMING, CONTRAINDICATED

_OUTCOMES = {
    ACCEPTED: (AFFIRMING,),
    DENIED: (CONTRAINDICATED,),
    NOT_GENUINE: ("not-genuine", "malformed"),
    UNAVAILABLE: ("unavailable",),
}
_RELEASES = 200
_ORDER = {"fail": 0, "pass": 1}


def decisions(ask: Ask) -> dict[str, Any]:
    """``?result=``, ``?measurement=`` and ``?before=``: decisions, newest first."""
    result, measurement = ask.query.get("result") or None, ask.query.get("measurement") or None
    outcomes: tuple[str | None, ...] = _OUTCOMES.get(result or "", (None,))
    before = before_of(ask)
    wanted = (of_kind(DECISION, outcome=outcome, measurement=measurement, before=before) for outcome in outcomes)
    found, more = page_of(ask, *wanted)
    return {
        "results": list(RESULTS),
        "result": result if result in RESULTS else None,
        "measurement": measurement,
        "decisions": found,
        "next": more,
    }


def decision(ask: Ask) -> dict[str, Any]:
    """One decision, whole."""
    stored, document = record_of(ask, DECISION)
    body, point = document["body"], checkpoints.newest(ask.tx)
    judged = body["decision"] or {"checks": [], "trust_vector": {}, "policy": None}
    access = stored_decisions.get(ask.tx, stored.seq)
    return {
        "number": stored.seq,
        "time": document["time"],
        "outcome": stored.outcome,
        "result": result_of(stored.outcome),
        "subject": stored.subject,
        "tee": body["tee"],
        "platform": body["platform"],
        "emulated": body["emulated"],
        "summary": body["summary"],
        "failure": body["failure"],
        "warnings": judged.get("warnings", []),
        "checks": sorted(judged["checks"], key=lambda check: _ORDER.get(check["outcome"], 2)),
        "trust_vector": judged["trust_vector"],
        "policy": {
            "name": judged["policy"],
            "sha256": body["rules"]["policy"],
            "generation": body["rules"]["generation"],
        },
        "references": [] if access is None else list(access.references),
        "claims": [] if body["claims"] is None else lines_of(body["claims"]),
        "launch": ask.house.once(("launch", stored.seq, stored.sha256), lambda: launch_of(ask, body)),
        "releases": _releases(ask, stored.seq),
        "sha256": stored.sha256.hex(),
        "covered": point is not None and stored.seq <= point.size,
    }


def _releases(ask: Ask, number: int) -> list[dict[str, Any]]:
    """What was asked for by this decision, of the newest releases."""
    found = rows(ask.tx, _RELEASES, of_kind(RELEASE), of_kind(REFUSED_RELEASE))
    return sorted((item for item in found if item.get("decision") == number), key=lambda item: item["number"])

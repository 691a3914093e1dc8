"""The canonical text of claims and decisions, of which most is the same from record to record and written once.

It is what :func:`attest.audit.canonical.canonical` writes of the same values, as ``orjson.Fragment``, which ``orjson``
takes over as it stands. For whoever decides thousands of records again and compares what they say.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from attest.audit.canonical import canonical, written
from attest.broker.appraise import Found
from attest.broker.evidence_record import brief_claims, findings
from policy.check import Check
from policy.claims import SnpClaims, TeeClaims, claims_json
from policy.decide import Decision
from policy.explain import decision_json
from policy.results import Known, Results
from policy.snp_checks import SNP

_OF_GUEST = ("chip_id", "host_data", "measurement", "report_data", "report_id")
"""The claims of an SNP report that are not shared, in the order of their names: byte strings, hexadecimal as JSON."""


def written_findings(found: Found) -> dict[str, Any]:
    """As :func:`attest.broker.evidence_record.findings`, claims and decision in writing."""
    return findings(found, claims=_claims, decision=_decision)


def _decision(decision: Decision) -> orjson.Fragment:
    """Its members in the order of their names, of which ``checks`` is the first."""
    rest: Any = decision_json(decision._replace(results=_NO_CHECKS))
    del rest["checks"]
    return orjson.Fragment(b'{"checks":[%b],%b' % (_checks(decision.results), written(rest)[1:]))


_NO_CHECKS = Results.of(())


def _checks(results: Results) -> bytes:
    texts = list(_shared_checks(results.known))
    for place, check in results.own:
        texts[place] = _check(check)
    return b",".join(texts)


@lru_cache(1024)
def _shared_checks(known: Known) -> tuple[bytes, ...]:
    return tuple(map(_check, known.checks))


def _check(check: Check) -> bytes:
    name, expected, actual, outcome, clause = check
    return written({"actual": actual, "clause": clause, "expected": expected, "id": name, "outcome": outcome})


def _claims(claims: TeeClaims) -> orjson.Fragment:
    if not isinstance(claims, SnpClaims):
        return orjson.Fragment(canonical(brief_claims(claims)))
    first, *others = _around(SNP.shared(claims))
    found = [first]
    for name, text in zip(_OF_GUEST, others, strict=True):
        found += [getattr(claims, name).hex().encode(), text]
    return orjson.Fragment(b"".join(found))


@lru_cache(1024)
def _around(shared: Sequence[object]) -> tuple[bytes, ...]:
    """The text of shared claims before, between and after those of the guest."""
    values = claims_json(SNP.blanked(shared))
    rest, found = canonical(values | dict.fromkeys(_OF_GUEST, "")), []
    for name in _OF_GUEST:
        before, member, rest = rest.partition(b'"%b":"' % name.encode())
        found.append(before + member)
    return (*found, rest)

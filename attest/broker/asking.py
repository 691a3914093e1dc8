"""Auditors' questions by name: the command line and the operators' listener ask and answer alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from attest.broker import questions
from attest.broker.abbreviated import whole
from attest.broker.anomalies import anomalies
from attest.broker.collateral import ServiceCollateral
from attest.broker.errors import RequestMalformed
from attest.broker.launch_questions import launches_of
from attest.broker.rules import Rules
from attest.broker.today import not_today
from policy.vocab import ResourcePath

_YEARS = range(1970, 9999)
"""Of times people give: near the ends of what a datetime holds it can be neither moved to UTC nor counted from."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with what limits it. ``value``: resource, measurement, chip or VM it is about, ``None`` for others.

    ``now`` is when it is asked. ``until`` itself is left out.
    """

    question: str
    now: datetime
    value: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Judge:
    """What today's judgement is made with: the rules (those in force, or a policy to try), the collateral at hand."""

    rules: Callable[[], Rules]
    collateral: ServiceCollateral


Answer = Callable[[Connection, Asked, Judge], Sequence[Any]]


def _releases(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    path = ResourcePath.parse(asked.value or "")
    return questions.releases(tx, str(path), since=asked.since, until=asked.until)


def _ran(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    return questions.ran(tx, whole(tx, "measurement", asked.value or ""))


def _chip(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    return questions.signed_by(tx, whole(tx, "chip", asked.value or ""), since=asked.since, until=asked.until)


def _changes(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    return questions.changes(tx, since=asked.since, until=asked.until)


def _who(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    return questions.approvers(tx, since=asked.since, until=asked.until)


def _anomalies(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    return anomalies(tx, asked.now, since=asked.since)


def _launches(tx: Connection, asked: Asked, _: Judge) -> Sequence[Any]:
    found = launches_of(tx, asked.value or "")
    return tuple(item for item in found if _within(item.time, asked))


def _within(when: datetime, asked: Asked) -> bool:
    return (asked.since is None or when >= asked.since) and (asked.until is None or when < asked.until)


def _today(tx: Connection, asked: Asked, judge: Judge) -> Sequence[Any]:
    found = not_today(tx, judge.rules(), judge.collateral, asked.now, since=asked.since, until=asked.until)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Question:
    """``about`` is what its value is called, ``None`` where it takes none."""

    help: str
    about: str | None
    answer: Answer


QUESTIONS: Mapping[str, Question] = {
    "releases": Question("all releases of a resource, and those refused", "RESOURCE", _releases),
    "ran": Question("all VMs that ran a measurement", "MEASUREMENT", _ran),
    "chip": Question("everything a chip (CHIP_ID or PPID) signed", "CHIP", _chip),
    "launches": Question("all launches of a VM that hosts told of, and what became of them", "VM", _launches),
    "changes": Question("what operators changed between two moments", None, _changes),
    "who": Question("who is on record for which changes", None, _who),
    "today": Question("what was accepted then and would be refused today", None, _today),
    "anomalies": Question("gaps, clock jumps, chips in two places, measurements never registered", None, _anomalies),
}


def ask(tx: Connection, asked: Asked, judge: Judge) -> Sequence[Any]:
    """The answer's dataclasses. Raises RequestMalformed, AuditBroken, MalformedInput for a path that is none."""
    known = QUESTIONS.get(asked.question)
    if known is None:
        raise RequestMalformed(f"question {asked.question[:40]!r}: want one of {', '.join(QUESTIONS)}")
    if (known.about is None) != (asked.value is None):
        want = "nothing" if known.about is None else f"a {known.about}"
        got = "nothing" if asked.value is None else repr(asked.value[:80])
        raise RequestMalformed(f"question {asked.question}: want {want}, got {got}")
    return known.answer(tx, asked, judge)


def answer_document(asked: Asked, answer: Sequence[Any]) -> dict[str, Any]:
    """The answer as JSON, with what was asked."""
    return {
        "schema": f"attest.audit.ask.{asked.question}/1",
        "asked": questions.plain_json(asked),
        "answer": questions.answer_json(answer),
    }


def parse_time(text: str | None, what: str) -> datetime | None:
    """An RFC 3339 date or time of the years 1970 to 9998, moved to UTC or meant in it. Raises RequestMalformed."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RequestMalformed(f"{what}: got {text[:40]!r}, want a date or time such as 2026-01-31") from None
    if when.year not in _YEARS:
        raise RequestMalformed(f"{what}: got {text[:40]!r}, want one of the years {_YEARS[0]} to {_YEARS[-1]}")
    return when

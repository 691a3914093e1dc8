"""What came of all rules: outcomes at once, their words when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from policy.check import FAIL, IGNORED, PASS, Check

Rule = Callable[[Any], Check]
Outcome = Callable[[Any], str]
"""What a rule will say of an appraisal, without its words."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Checks that many decisions share, in the order of a decision, with a place for each of the others.

    ``failed`` are the ids of those that failed, ``passed`` and ``ignored`` how many did. Of the rules for the other
    places ``now`` compare something, ``later`` do not, whatever the appraisal; of ``soon`` (with the id of its check)
    the outcome is known before the words. Compared by identity.
    """

    checks: tuple[Check, ...]
    failed: frozenset[str]
    passed: int
    ignored: int
    now: tuple[tuple[int, Rule], ...] = ()
    later: tuple[tuple[int, Rule], ...] = ()
    soon: tuple[tuple[int, Rule, str, Outcome], ...] = ()

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Known:
        """Checks with no place among them for others."""
        every = tuple(checks)
        outcomes = [check.outcome for check in every]
        failed = frozenset([check.id for check in every if check.outcome == FAIL])
        return cls(every, failed, outcomes.count(PASS), outcomes.count(IGNORED))


class Results:
    """The ids of the checks that ``failed``, how many ``passed`` and were ``ignored``, and all ``checks``.

    ``known`` is what other decisions share; ``own`` are the checks this one made, by their places. Of what stands in
    ``known.later`` (it compares nothing) and ``known.soon`` the words remain to be made from the appraisal ``of``.
    """

    __slots__ = ("_of", "_own", "_soon", "failed", "ignored", "known", "passed")

    def __init__(self, known: Known, own: Sequence[tuple[int, Check]] = (), of: object = None) -> None:
        self.known, self._own, self._of = known, own, of
        self.failed, self.passed, self.ignored = known.failed, known.passed, known.ignored + len(known.later)
        for _, check in own:
            self._count(check.id, check.outcome)
        self._soon: list[tuple[int, Rule, str]] = []
        for place, rule, name, outcome_of in known.soon:
            outcome = outcome_of(of)
            self._soon.append((place, rule, outcome))
            self._count(name, outcome)

    def _count(self, name: str, outcome: str) -> None:
        if outcome == FAIL:
            self.failed |= {name}
        elif outcome == PASS:
            self.passed += 1
        else:
            self.ignored += 1

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Results:
        """Of checks that were made."""
        return cls(Known.of(checks))

    @property
    def own(self) -> Sequence[tuple[int, Check]]:
        """The checks that are not in ``known``, and their places."""
        if self._of is not None:
            later = ((place, rule, IGNORED) for place, rule in self.known.later)
            words = [(place, _words(rule, self._of, outcome)) for place, rule, outcome in (*later, *self._soon)]
            self._own, self._of = (*self._own, *words), None
        return self._own

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in the order of a decision."""
        found = list(self.known.checks)
        for place, check in self.own:
            found[place] = check
        return tuple(found)

    def __add__(self, more: Iterable[Check]) -> Results:
        return Results.of((*self.checks, *more))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Results) and self.checks == other.checks

    def __hash__(self) -> int:
        return hash(self.checks)


def _words(rule: Rule, of: object, outcome: str) -> Check:
    check = rule(of)
    if check.outcome != outcome:  # a mistake of ours, which must not pass for a verdict
        raise RuntimeError(f"policy: {check.id} was taken for {outcome}, and is {check.outcome}")
    return check

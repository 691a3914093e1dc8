"""What came of all rules: outcomes at once, their words when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from policy.check import FAIL, IGNORED, PASS, Check

Rule = Callable[[Any], Check]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Checks that many decisions share, in the order of a decision, with a place for each of the others.

    ``failed`` are the ids of those that failed, ``passed`` and ``ignored`` how many did. Of the rules for the other
    places ``now`` compare something, ``later`` do not, whatever the appraisal. Compared by identity.
    """

    checks: tuple[Check, ...]
    failed: frozenset[str]
    passed: int
    ignored: int
    now: tuple[tuple[int, Rule], ...] = ()
    later: tuple[tuple[int, Rule], ...] = ()

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Known:
        """Checks with no place among them for others."""
        every = tuple(checks)
        outcomes = [check.outcome for check in every]
        failed = frozenset([check.id for check in every if check.outcome == FAIL])
        return cls(every, failed, outcomes.count(PASS), outcomes.count(IGNORED))


class Results:
    """The ids of the checks that ``failed``, how many ``passed`` and were ``ignored``, and all ``checks``.

    ``known`` is what other decisions share; ``own`` are the checks this one made, by their places. What stands in
    ``known.later`` compares nothing: of it only the words remain to be made from the appraisal ``of``.
    """

    __slots__ = ("_of", "_own", "failed", "ignored", "known", "passed")

    def __init__(self, known: Known, own: Sequence[tuple[int, Check]] = (), of: object = None) -> None:
        self.known, self._own, self._of = known, own, of
        self.failed, self.passed, self.ignored = known.failed, known.passed, known.ignored + len(known.later)
        for _, check in own:
            if check.outcome == FAIL:
                self.failed |= {check.id}
            elif check.outcome == PASS:
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
            self._own = (*self._own, *((place, _words(rule, self._of)) for place, rule in self.known.later))
            self._of = None
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


def _words(rule: Rule, of: object) -> Check:
    check = rule(of)
    if check.outcome != IGNORED:  # a mistake of ours, which must not pass for a verdict
        raise RuntimeError(f"policy: {check.id} was taken for left out, and is {check.outcome}")
    return check

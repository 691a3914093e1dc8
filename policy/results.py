"""What came of all rules: outcomes at once, their words when somebody reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from policy.check import FAIL, IGNORED, PASS, Check

Rule = Callable[[Any], Check]


class Results:
    """The ids of the checks that ``failed``, whether any ``passed``, and all ``checks`` in the order of a decision.

    ``found`` are the checks; the places named in ``later`` are open still. Those are of rules that compare nothing
    under this policy, whatever ``of`` (the appraisal) holds: nothing but the words is to be made.
    """

    __slots__ = ("_found", "_later", "_of", "failed", "passed")

    def __init__(
        self,
        found: Sequence[Check],
        failed: frozenset[str],
        passed: bool,
        later: Sequence[tuple[int, Rule]] = (),
        of: object = None,
    ) -> None:
        self._found, self._later, self._of = found, later, of
        self.failed, self.passed = failed, passed

    @classmethod
    def of(cls, checks: Iterable[Check]) -> Results:
        """Of checks that were made."""
        every = tuple(checks)
        failed = frozenset([check.id for check in every if check.outcome == FAIL])
        return cls(every, failed, any(check.outcome == PASS for check in every))

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check."""
        found = list(self._found)
        for place, rule in self._later:
            found[place] = check = rule(self._of)
            if check.outcome != IGNORED:  # a mistake of ours, which must not pass for a verdict
                raise RuntimeError(f"policy: {check.id} was taken for left out, and is {check.outcome}")
        self._found, self._later = found, ()
        return tuple(found)

    def __add__(self, more: Iterable[Check]) -> Results:
        return Results.of((*self.checks, *more))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Results) and self.checks == other.checks

    def __hash__(self) -> int:
        return hash(self.checks)

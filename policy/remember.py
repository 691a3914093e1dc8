"""Running the rules of one kind of evidence, with those about machine and image remembered.

A fleet has few kinds of machine and few owners of images, and most rules look at nothing else. They are remembered by
policy document and by the claims they can see: they run on claims whose other fields are blank, without references and
before all time, so that nothing outside the key can change their answer. A rule that looks at one guest, at reference
values or at the clock runs each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

from policy.check import FAIL, Appraisal, Check
from policy.claims import TeeClaims
from policy.document import PolicyDocument, TeeRules
from policy.reference_set import NONE
from policy.results import Known, Results
from policy.vocab import Platform

C = TypeVar("C", bound=TeeClaims)
R = TypeVar("R", bound=TeeRules)
_NEVER = datetime.min.replace(tzinfo=UTC)
_PENDING = Check("pending", "", "", FAIL, "")
"""Holds the place of a rule that runs each time, and fails if it did not run."""


class Remembered(Generic[C, R]):
    """The rules of claims of type ``kind``, in the order of a decision.

    ``blank`` gives, for every claim that differs from guest to guest, the value it has while results are made to be
    remembered; ``parts`` the types of claims that are themselves records, whose fields ``blank`` names ``part.field``.
    ``left_out`` says of rules that run each time under which policies they compare nothing, whatever the claims;
    ``soon`` gives the id of a rule's check and its outcome, for rules of which hardly anybody reads the words.
    """

    def __init__(
        self,
        kind: type[C],
        rules: Sequence[Callable[[Appraisal[C, R]], Check]],
        *,
        each_time: Iterable[Callable[[Appraisal[C, R]], Check]],
        left_out: Mapping[Callable[[Appraisal[C, R]], Check], Callable[[R], bool]] | None = None,
        soon: Mapping[Callable[[Appraisal[C, R]], Check], tuple[str, Callable[[Appraisal[C, R]], str]]] | None = None,
        blank: Mapping[str, object],
        parts: Mapping[str, type] | None = None,
    ) -> None:
        every = frozenset(each_time)
        self.rules = tuple(rules)
        self._kind, self._parts = kind, dict(parts or {})
        self._left_out, self._soon = dict(left_out or {}), dict(soon or {})
        self._each_time = tuple((index, rule) for index, rule in enumerate(rules) if rule in every)
        self._remembered = tuple((index, rule) for index, rule in enumerate(rules) if rule not in every)
        self._blank = _nested(blank)
        self._names = tuple(name for name in _leaves(kind, self._parts) if name not in blank)
        self._key = attrgetter(*self._names)
        self._known = lru_cache(maxsize=1024)(self._run_remembered)

    def run(self, of: Appraisal[C, R]) -> Results:
        """The result of every rule."""
        known = self._known(of.document, of.rules, self._key(of.claims))
        return Results(known, [(place, rule(of)) for place, rule in known.now], of)

    def shared(self, claims: C) -> Sequence[object]:
        """The claims that do not differ from guest to guest."""
        found: Sequence[object] = self._key(claims)
        return found

    def blanked(self, shared: Sequence[object]) -> C:
        """Claims with what :meth:`shared` gave, and blank elsewhere."""
        values = _nested(dict(zip(self._names, shared, strict=True)))
        for name, part in self._parts.items():
            values[name] = part(**{**self._blank.get(name, {}), **values.get(name, {})})
        own = {name: value for name, value in self._blank.items() if name not in self._parts}
        return self._kind(**own, **values)

    def _run_remembered(self, document: PolicyDocument, rules: R, shared: Sequence[object]) -> Known:
        of = Appraisal(self.blanked(shared), rules, Platform.NONE, document, NONE, _NEVER)
        made = {place: rule(of) for place, rule in self._remembered}
        later = tuple(item for item in self._each_time if item[1] in self._left_out and self._left_out[item[1]](rules))
        soon = tuple((place, rule, *self._soon[rule]) for place, rule in self._each_time if rule in self._soon)
        now = tuple(item for item in self._each_time if item not in later and item[1] not in self._soon)
        checks = tuple(made.get(place, _PENDING) for place in range(len(self.rules)))
        return replace(Known.of(made.values()), checks=checks, now=now, later=later, soon=soon)


def _leaves(kind: Any, parts: Mapping[str, Any]) -> list[str]:
    """The fields of a named tuple; of ``parts`` theirs, as ``part.field``."""
    found: list[str] = []
    for name in kind._fields:
        part = parts.get(name)
        found += [name] if part is None else [f"{name}.{field}" for field in part._fields]
    return found


def _nested(flat: Mapping[str, object]) -> dict[str, Any]:
    """``{"a": 1, "b.c": 2}`` as ``{"a": 1, "b": {"c": 2}}``."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        head, _, tail = name.partition(".")
        if tail:
            found.setdefault(head, {})[tail] = value
        else:
            found[head] = value
    return found

"""An expected list of measured events beside a logged one: what differs, in words, register by register.

A register is a chain of digests, so only digests decide whether two events are the same; names and details say which
event it is. The events of a register are aligned like the lines of two texts: pairs with one digest first, then pairs
with one name, in the order of both lists. What is left over is missing or extra, or both: then it has moved.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from policy.measured import REGISTERS, MeasuredEvent

CHANGED, MISSING, EXTRA, MOVED = "changed", "missing", "extra", "moved"

_SAME_DIGEST, _SAME_NAME = 4, 1
_MOST_PAIRS = 250_000
"""Pairs weighed for the best alignment (a fifth of a second); longer lists are compared position by position."""

_Pair = tuple[int | None, int | None]


class EventDifference(NamedTuple):
    """One event that is not as expected.

    ``place`` counts from 1 among the register's logged events, or among the expected ones when it is missing. ``kind``
    is ``changed``, ``missing``, ``extra`` or ``moved``.
    """

    register: int
    place: int
    kind: str
    expected: MeasuredEvent | None
    logged: MeasuredEvent | None

    @property
    def name(self) -> str:
        """What was measured; the expected word where both sides have one."""
        event = self.expected or self.logged
        return "" if event is None else event.name

    def text(self) -> str:
        """One line for people: ``RTMR2 event 2 initrd: expected 1f5c…, got 77aa…``."""
        where = f"RTMR{self.register} event {self.place} {self.name}"
        if self.kind == MOVED:
            return f"{where}: measured, but not in the expected order"
        if self.expected is None:
            return f"{where}: not expected, got {_shown(self.logged)}"
        if self.logged is None:
            return f"{where}: missing, expected {_shown(self.expected)}"
        got = _shown(self.logged)
        if self.logged.name != self.expected.name:
            got = f"{self.logged.name} {got}"
        return f"{where}: expected {_shown(self.expected)}, got {got}"


def event_differences(
    expected: Sequence[MeasuredEvent], logged: Sequence[MeasuredEvent], registers: Iterable[int] = range(REGISTERS)
) -> tuple[EventDifference, ...]:
    """Every difference in the chosen registers, by register and place; empty when their replays are equal.

    Leave out registers whose contents nobody predicted. Time and memory are linear for lists that differ beyond
    500 events each, so a hostile log costs nothing.
    """
    found: list[EventDifference] = []
    for register in registers:
        ours = [event for event in expected if event.register == register]
        theirs = [event for event in logged if event.register == register]
        found += _of_register(register, ours, theirs)
    return tuple(found)


def first_differences(differences: Iterable[EventDifference]) -> dict[int, EventDifference]:
    """The first difference of each register that has one: everything after it may only follow from it."""
    first: dict[int, EventDifference] = {}
    for difference in differences:
        first.setdefault(difference.register, difference)
    return first


def _of_register(register: int, ours: list[MeasuredEvent], theirs: list[MeasuredEvent]) -> list[EventDifference]:
    head = _common(ours, theirs)
    tail = _common(ours[head:][::-1], theirs[head:][::-1])
    middle = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    found = []
    for left, right in _aligned(*middle):
        expected = None if left is None else middle[0][left]
        logged = None if right is None else middle[1][right]
        if expected is not None and logged is not None and expected.digest == logged.digest:
            continue
        kind = MISSING if right is None else EXTRA if left is None else CHANGED
        place = right if right is not None else left
        found.append(EventDifference(register, head + (place or 0) + 1, kind, expected, logged))
    return _with_moves(found)


def _common(ours: list[MeasuredEvent], theirs: list[MeasuredEvent]) -> int:
    """How many events at the beginning have equal digests."""
    count = 0
    for left, right in zip(ours, theirs, strict=False):
        if left.digest != right.digest:
            break
        count += 1
    return count


def _aligned(ours: list[MeasuredEvent], theirs: list[MeasuredEvent]) -> list[_Pair]:
    """Index pairs in order; ``None`` stands for nothing on that side."""
    if len(ours) * len(theirs) > _MOST_PAIRS:
        length = max(len(ours), len(theirs))
        return [(i if i < len(ours) else None, i if i < len(theirs) else None) for i in range(length)]
    best = _weights(ours, theirs)
    pairs: list[_Pair] = []
    left = right = 0
    while left < len(ours) and right < len(theirs):
        weight = _weight(ours[left], theirs[right])
        if weight and best[left][right] == weight + best[left + 1][right + 1]:
            pairs.append((left, right))
            left, right = left + 1, right + 1
        elif best[left][right] == best[left + 1][right]:
            pairs.append((left, None))
            left += 1
        else:
            pairs.append((None, right))
            right += 1
    pairs += [(index, None) for index in range(left, len(ours))]
    return pairs + [(None, index) for index in range(right, len(theirs))]


def _weights(ours: list[MeasuredEvent], theirs: list[MeasuredEvent]) -> list[list[int]]:
    """The best total weight of aligning the rest of both lists, from every pair of places."""
    best = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for left in range(len(ours) - 1, -1, -1):
        row, below, event = best[left], best[left + 1], ours[left]
        for right in range(len(theirs) - 1, -1, -1):
            weight = _weight(event, theirs[right])
            paired = weight + below[right + 1] if weight else 0
            row[right] = max(paired, below[right], row[right + 1])
    return best


def _weight(ours: MeasuredEvent, theirs: MeasuredEvent) -> int:
    return _SAME_DIGEST if ours.digest == theirs.digest else _SAME_NAME if ours.name == theirs.name else 0


def _with_moves(found: list[EventDifference]) -> list[EventDifference]:
    """A missing event whose digest is among the extra ones was measured elsewhere: told once, where it was logged."""
    extra: dict[bytes, list[EventDifference]] = defaultdict(list)
    for difference in found:
        if difference.kind == EXTRA and difference.logged is not None:
            extra[difference.logged.digest].append(difference)
    moved: dict[int, MeasuredEvent] = {}
    gone: set[int] = set()
    for difference in found:
        event = difference.expected
        if difference.kind == MISSING and event is not None and extra[event.digest]:
            moved[id(extra[event.digest].pop(0))] = event
            gone.add(id(difference))
    return [
        item._replace(kind=MOVED, expected=moved[id(item)]) if id(item) in moved else item
        for item in found
        if id(item) not in gone
    ]


def _shown(event: MeasuredEvent | None) -> str:
    if event is None:
        return "nothing"
    digest = event.digest.hex()
    return f"{digest[:12]}…" + (f" ({event.detail[:120]})" if event.detail else "")

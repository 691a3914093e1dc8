"""Reference values as one sequence in which those with a launch digest are found at once, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import overload

from policy.reference import ReferenceValue
from policy.stage import Guest
from policy.vocab import Platform

SHOWN = 16
"""So many expected digests a decision names; of more it says how many there are."""


class ReferenceSet(Sequence[ReferenceValue]):
    """An immutable sequence with an index by platform and launch digest, and by name. ``staged``: one has a stage."""

    __slots__ = ("_equal", "_named", "_platforms", "_values", "staged")

    def __init__(self, values: Iterable[ReferenceValue] = ()) -> None:
        self._values = tuple(values)
        self._equal: dict[tuple[Platform, bytes], list[ReferenceValue]] = defaultdict(list)
        self._platforms: dict[Platform, list[ReferenceValue]] = defaultdict(list)
        self.staged = any(value.stage is not None for value in self._values)
        self._named = {value.name: value for value in self._values}
        for value in self._values:
            self._equal[value.platform, bytes(value.launch_digest)].append(value)
            self._platforms[value.platform].append(value)

    @classmethod
    def of(cls, values: Sequence[ReferenceValue]) -> ReferenceSet:
        """``values`` itself where it is one already."""
        return values if isinstance(values, cls) else cls(values) if values else NONE

    def equal(self, platform: Platform, digest: bytes) -> Sequence[ReferenceValue]:
        """Those of this launch digest, whatever their state."""
        return self._equal.get((platform, digest), ())

    def named(self, name: str) -> ReferenceValue | None:
        """The value of that name."""
        return self._named.get(name)

    def of_platform(self, platform: Platform) -> Sequence[ReferenceValue]:
        """Those of a platform, whatever their state."""
        return self._platforms.get(platform, ())

    @overload
    def __getitem__(self, index: int) -> ReferenceValue: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ReferenceValue]: ...

    def __getitem__(self, index: int | slice) -> ReferenceValue | Sequence[ReferenceValue]:
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[ReferenceValue]:
        return iter(self._values)


NONE = ReferenceSet()


def counts(value: ReferenceValue, guest: Guest, now: datetime) -> bool:
    """Whether a value may be matched by this guest now."""
    if value.expires is not None and now >= value.expires:
        return False
    return value.stage is None or value.stage.obstacle(guest, now) is None


def standing(values: Iterable[ReferenceValue], guest: Guest, now: datetime) -> str:
    """What has to be said about values of the guest's own digest: why one does not count, or what it is one of."""
    said = []
    for value in values:
        if value.stage is not None:
            text = value.stage.obstacle(guest, now) or value.stage.remark
            said += [f"{value.name} {text}"] if text else []
    return "".join(f"; {text}" for text in said)

"""`policy.named.NamedTuple` is `typing.NamedTuple` at work."""

from __future__ import annotations

import copy
import pickle
import typing
from collections.abc import Callable

import pytest

from policy import named


class Ours(named.NamedTuple):
    """A point with a name."""

    x: int
    y: int = 2
    name: str = "p"

    @property
    def sum(self) -> int:
        """Of both."""
        return self.x + self.y

    def moved(self, by: int) -> Ours:
        """Another one."""
        return self._replace(x=self.x + by)


class Theirs(typing.NamedTuple):
    """A point with a name."""

    x: int
    y: int = 2
    name: str = "p"


Kind = type[Ours] | type[Theirs]
CALLS: dict[str, Callable[[Kind], object]] = {
    "all by position": lambda kind: kind(1, 3, "q"),
    "defaults": lambda kind: kind(1),
    "by name": lambda kind: kind(name="q", x=1),
    "unpacked": lambda kind: [*kind(1, 3)],
    "fields": lambda kind: (kind._fields, kind._field_defaults, kind.__match_args__),
    "as a dictionary": lambda kind: kind(1)._asdict(),
    "replaced": lambda kind: kind(1)._replace(y=5),
    "made of a list": lambda kind: kind._make([1, 2, "r"]),
    "hash and order": lambda kind: (hash(kind(1)), sorted([kind(2), kind(1)]), kind(1) == (1, 2, "p")),
    "text": lambda kind: repr(kind(1, name="é")).partition("(")[2],
    "documentation": lambda kind: kind.__doc__,
    "a copy": lambda kind: copy.deepcopy(kind(1)),
    "through pickle": lambda kind: pickle.loads(pickle.dumps(kind(1))),
    "a number of another type in the place of a field": lambda kind: kind("not checked", None),  # type: ignore[arg-type]  # on purpose
}
REFUSED: dict[str, Callable[[Kind], object]] = {
    "a field that is missing": lambda kind: kind(),  # type: ignore[call-arg]  # on purpose
    "too many": lambda kind: kind(1, 2, "p", 4),  # type: ignore[call-arg]  # on purpose
    "a name that is no field": lambda kind: kind(1, z=3),  # type: ignore[call-arg]  # on purpose
    "a field twice": lambda kind: kind(1, x=3),  # type: ignore[misc]  # on purpose
    "replacing what is no field": lambda kind: kind(1)._replace(z=3),  # type: ignore[call-arg]  # on purpose
    "a field that is assigned": lambda kind: setattr(kind(1), "x", 2),
    "an attribute that is no field": lambda kind: setattr(kind(1), "z", 2),
    "making it of too few": lambda kind: kind._make([]),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_it_makes_is_what_the_standard_library_s_makes(name: str) -> None:
    assert CALLS[name](Ours) == CALLS[name](Theirs)


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_what_the_standard_library_s_refuses_with_the_same_kind_of_error(name: str) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)) as theirs:
        REFUSED[name](Theirs)
    with pytest.raises(theirs.type):
        REFUSED[name](Ours)


def test_methods_and_properties_of_the_class_work_and_keep_its_type() -> None:
    assert Ours(1).sum == 3
    moved = Ours(1).moved(4)
    assert (moved.x, type(moved)) == (5, Ours)


def test_it_is_a_tuple_without_a_dictionary() -> None:
    assert isinstance(Ours(1), tuple)
    assert not hasattr(Ours(1), "__dict__")

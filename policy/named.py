"""``NamedTuple`` without :mod:`typing`, whose import takes longer than all of ``cvm ps``, and without compiling code
for each class, as the standard library does. To a type checker it is `typing.NamedTuple`; what it makes behaves the
same: a test compares them. Some sixty of these classes are on the way to QEMU's start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self

    # the same name on purpose: the checker knows this class by its full name
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter  # in C; `collections` builds its own from it

    class _Fields(tuple):
        """What all of them have."""

        __slots__ = ()

        def __new__(cls, *args: Any, **members: Any) -> Self:
            if members or len(args) != len(cls._fields):
                args = _filled(cls, args, members)
            return tuple.__new__(cls, args)

        @classmethod
        def _make(cls, values: Iterable[Any]) -> Self:
            return cls(*values)

        def _replace(self, **members: Any) -> Self:
            values = [members.pop(name, value) for name, value in zip(self._fields, self, strict=True)]
            if members:
                raise ValueError(f"Got unexpected field names: {list(members)!r}")
            return tuple.__new__(type(self), values)

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self) -> str:
            shown = (f"{name}={value!r}" for name, value in zip(self._fields, self, strict=True))
            return f"{type(self).__name__}({', '.join(shown)})"

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)

    class _Maker(type):
        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            fields = tuple(space.get("__annotations__", ()))
            defaults = {field: space[field] for field in fields if field in space}
            own = {
                field: _tuplegetter(number, f"Alias for field number {number}") for number, field in enumerate(fields)
            }
            more = {"__slots__": (), "__match_args__": fields, "_fields": fields, "_field_defaults": defaults}
            return type(name, (_Fields,), {**space, **own, **more})

    def _filled(kind: type, args: tuple[Any, ...], members: dict[str, Any]) -> list[Any]:
        values = list(args)
        for name in kind._fields[len(args) :]:
            if name in members:
                values.append(members.pop(name))
            elif name in kind._field_defaults:
                values.append(kind._field_defaults[name])
            else:
                raise TypeError(f"{kind.__name__}() missing required argument: {name!r}")
        if members or len(values) > len(kind._fields):
            raise TypeError(f"{kind.__name__}() got {len(args)} arguments and {list(members)!r}, has {kind._fields!r}")
        return values

    NamedTuple = type.__new__(_Maker, "NamedTuple", (), {"__doc__": "As `typing.NamedTuple`."})

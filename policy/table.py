"""Strict decoding of tables a person wrote (TOML): all problems at once, each with its path and a suggestion.

A :class:`Table` hands out values by type and remembers which keys were asked for; :meth:`Table.finish` reports the rest
as unknown. Problems are collected in one list shared by nested tables, so decoding continues after a mistake and the
author sees every mistake in one run: ``$.cpu.modle: unknown key (did you mean "model"?)``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")


class Problems:
    """The growing list of ``$.path: text`` entries of one document."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, path: str, text: str) -> None:
        """Record one problem at ``path``."""
        self.found.append(f"{path}: {text}")


class Table:
    """One table of a document at ``path`` (``$`` is the root)."""

    def __init__(self, values: Mapping[str, object], problems: Problems, path: str = "$") -> None:
        self._values = values
        self._problems = problems
        self._asked: list[str] = []
        self.path = path

    def problem(self, key: str, text: str) -> None:
        """Record a problem at ``key`` of this table."""
        self._problems.add(f"{self.path}.{key}", text)

    def has(self, key: str) -> bool:
        """Whether the author wrote ``key`` (asking makes the key known)."""
        self._asked.append(key)
        return key in self._values

    def value(self, key: str, kind: type[_T], default: _T | None = None, *, want: str | None = None) -> _T | None:
        """The value of ``key`` if it is a ``kind``, ``default`` where absent; missing without default is a problem."""
        self._asked.append(key)
        if key not in self._values:
            if default is None:
                self.problem(key, f"missing, want {want or _word(kind)}")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problem(key, f"got {_shown(value)}, want {want or _word(kind)}")
            return default
        return value

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str | None:
        """A string that is one of ``options``."""
        quoted = ", ".join(f'"{option}"' for option in options)
        value = self.value(key, str, default, want=f"one of {quoted}")
        if value is not None and value not in options:
            self.problem(key, f"got {_shown(value)}, want one of {quoted}{_suggest(value, options)}")
            return default
        return value

    def strings(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of strings."""
        self._asked.append(key)
        if key not in self._values:
            if default is None:
                self.problem(key, "missing, want a list of strings")
            return tuple(default or ())
        value = self._values[key]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problem(key, f"got {_shown(value)}, want a list of strings")
            return ()
        return tuple(value)

    def table(self, key: str, *, required: bool = True) -> Table | None:
        """The table under ``key``."""
        self._asked.append(key)
        if key not in self._values:
            if required:
                self.problem(key, "missing, want a table")
            return None
        value = self._values[key]
        if not isinstance(value, dict):
            self.problem(key, f"got {_shown(value)}, want a table")
            return None
        return Table(value, self._problems, f"{self.path}.{key}")

    def tables(self, key: str) -> tuple[Table, ...]:
        """The tables of an array ``[[key]]``, in order; absent means none."""
        self._asked.append(key)
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.problem(key, f"got {_shown(value)}, want an array of tables")
            return ()
        return tuple(Table(item, self._problems, f"{self.path}.{key}[{n}]") for n, item in enumerate(value))

    def finish(self) -> None:
        """Every key nobody asked for is unknown."""
        for key in self._values:
            if key not in self._asked:
                self.problem(key, f"unknown key{_suggest(key, self._asked)}")


def _suggest(word: str, options: Sequence[str]) -> str:
    from difflib import get_close_matches  # only for who made a mistake

    close = get_close_matches(word, options, n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _word(kind: type) -> str:
    return {str: "a string", int: "an integer", bool: "true or false", list: "a list", dict: "a table"}.get(
        kind, kind.__name__
    )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"

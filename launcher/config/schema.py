"""JSON Schema of the VM file, for editors: written down by watching the decoder ask.

The decoder is run over a table that answers every question with a stand-in and remembers it: key, type, choices,
default, whether it may be absent. So a key the decoder knows cannot be missing here, nor the other way round. What the
schema does not say: ranges, patterns and what several keys mean together. The decoder says that, all at once.
Source: JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from launcher.config.vm_toml import PLATFORMS, decode
from policy.table import Problems, Table

_T = TypeVar("_T")
_TYPES: dict[type, tuple[str, Any]] = {str: ("string", ""), int: ("integer", 0), bool: ("boolean", False)}
ID = "urn:cvm:vm-file:1"


def vm_schema() -> dict[str, Any]:
    """The schema of version 1 of the file."""
    merged: dict[str, Any] = {}
    for platform in PLATFORMS:
        watched = _Watched(platform)
        decode(watched)
        merged = _merge(merged, watched.shape()) if merged else watched.shape()
    merged["properties"]["schema"]["const"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "cvm VM file",
        **merged,
    }


class _Watched(Table):
    """A table in which every key is there and every answer is harmless."""

    def __init__(self, platform: str) -> None:
        super().__init__({}, Problems())
        self._platform = platform
        self._seen: dict[str, dict[str, Any]] = {}
        self._optional: set[str] = set()
        self._nested: dict[str, _Watched] = {}
        self._arrays: set[str] = set()

    def problem(self, key: str, text: str) -> None:
        """Stand-ins have problems; nobody is told."""

    def has(self, key: str) -> bool:
        """Yes, so that what follows is asked; a key that is looked for first may be absent."""
        self._optional.add(key)
        return True

    def value(self, key: str, kind: type[_T], default: _T | None = None, *, want: str | None = None) -> _T | None:
        """Remember the type, the default and what is wanted."""
        name, stand_in = _TYPES[kind]
        shape: dict[str, Any] = {"type": name}
        if want is not None:
            shape["description"] = want
        if default is not None:
            self._optional.add(key)
            shape["default"] = default
        self._seen[key] = shape
        return default if default is not None else stand_in

    def choice(self, key: str, options: Sequence[str], default: str | None = None) -> str | None:
        """Remember the options."""
        self.value(key, str, default)
        self._seen[key]["enum"] = list(options)
        return self._platform if key == "platform" else default or options[0]

    def strings(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Remember a list of strings."""
        if default is not None:
            self._optional.add(key)
        self._seen[key] = {"type": "array", "items": {"type": "string"}}
        return ()

    def table(self, key: str, *, required: bool = True) -> Table | None:
        """Remember a table and go into it."""
        if not required:
            self._optional.add(key)
        self._nested[key] = _Watched(self._platform)
        return self._nested[key]

    def tables(self, key: str) -> tuple[Table, ...]:
        """Remember an array of tables and go into one."""
        self._optional.add(key)
        self._arrays.add(key)
        self._nested[key] = _Watched(self._platform)
        return (self._nested[key],)

    def finish(self) -> None:
        """Whatever was not asked for is unknown: `shape` says so."""

    def shape(self) -> dict[str, Any]:
        """What was asked, as a schema of an object."""
        properties = dict(self._seen)
        for key, nested in self._nested.items():
            shape = nested.shape()
            properties[key] = {"type": "array", "items": shape} if key in self._arrays else shape
        return {
            "type": "object",
            "additionalProperties": False,
            "required": sorted(properties.keys() - self._optional),
            "properties": properties,
        }


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What holds for both platforms: defaults they disagree about are left out, required is what both require."""
    merged = dict(one)
    for key, value in other.items():
        if key == "required":
            merged[key] = sorted(set(one.get(key, ())) & set(value))
        elif isinstance(value, dict) and isinstance(one.get(key), dict):
            merged[key] = _merge(one[key], value)
        elif key == "default" and one.get(key) != value:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged

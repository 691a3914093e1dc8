"""A VM file's text from its values: what `cvm import` writes."""

from __future__ import annotations

from collections.abc import Mapping


def lines(values: Mapping[str, object]) -> str:
    """``name = value`` of every member, one a line."""
    return "".join(f"{name} = {_value(value)}\n" for name, value in values.items())


def array_lines(name: str, values: Mapping[str, object]) -> str:
    """One table of the array ``name``: keys first, then the tables below it."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tables = [f"[{name}.{key}]\n{lines(value)}" for key, value in values.items() if isinstance(value, dict)]
    return f"[[{name}]]\n{lines(plain)}" + "".join(tables)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text) + '"'

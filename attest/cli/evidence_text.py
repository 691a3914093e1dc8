"""Evidence for people: the same values as the JSON form, one per line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy.explain import check_line

_WIDTH = 20
_LEADING = (
    "product",
    "signing_key",
    "csp_id",
    "root",
    "version",
    "measurement",
    "report_data",
    "chip_id",
    "reported_tcb",
)


def verify_text(result: Mapping[str, Any]) -> str:
    """Outcome first, then claims, then checks."""
    lines = [f"{result['outcome']}: {result['file']} ({result['kind']})"]
    if result["message"]:
        lines.append(result["message"])
    claims = result["claims"]
    if claims:
        lines.append("")
        ordered = [*(name for name in _LEADING if name in claims), *(name for name in claims if name not in _LEADING)]
        lines += [field_line(name, claims[name]) for name in ordered if claims[name] is not None]
    if result["checks"]:
        lines.append("")
        lines += [check_line(check) for check in result["checks"]]
    return "\n".join(map(printable, lines))


def printable(text: str) -> str:
    """Control characters of a hostile file never reach the terminal."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def field_line(name: str, value: object) -> str:
    """``name  value``; a TCB version as its parts."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = f"{len(value)} (all of them with --json)"
    if isinstance(value, dict):
        value = " ".join(f"{part}={number}" for part, number in value.items())
    return f"  {name:<{_WIDTH}} {value}"

"""JSON as :mod:`json` writes and reads it, by the same C code, without that module: its import compiles regular
expressions and loads what that takes, two milliseconds before every launch. For documents this program wrote itself;
`policy.strictjson` reads those of strangers. A test compares both directions with the standard library.
"""

from __future__ import annotations

from _json import encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_SPACE = " \t\n\r"


def dumps(value: object) -> str:
    """As ``json.dumps(value, separators=(",", ":"))``. Raises TypeError for what is not JSON."""
    encode = make_encoder({}, _no_json, encode_basestring_ascii, None, ":", ",", False, False, True)
    return "".join(encode(value, 0))


def pretty(value: object, step: str = " ", margin: str = "\n") -> str:
    """As ``json.dumps(value, indent=step)`` of objects with names that are strings."""
    inside = margin + step
    if isinstance(value, dict) and value:
        members = (
            f"{inside}{encode_basestring_ascii(name)}: {pretty(item, step, inside)}" for name, item in value.items()
        )
        return f"{{{','.join(members)}{margin}}}"
    if isinstance(value, (list, tuple)) and value:
        items = (f"{inside}{pretty(item, step, inside)}" for item in value)
        return f"[{','.join(items)}{margin}]"
    return dumps(value)


def loads(data: bytes | str) -> Any:
    """As ``json.loads``; raises ValueError, and RecursionError for what is nested too deeply."""
    text = data if isinstance(data, str) else data.decode("utf-8")
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        value, end = make_scanner(_Reading)(text, start)  # type: ignore[arg-type]  # any object with these attributes
    except StopIteration:
        raise ValueError("not JSON") from None
    if text[end:].strip(_SPACE):
        raise ValueError(f"not JSON: more follows at character {end}")
    return value


def _no_json(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} is not JSON")


class _Reading:
    """What the scanner asks; the class itself is handed over."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> NoReturn:
        """``NaN`` and infinities."""
        raise ValueError(f"not JSON: {name}")

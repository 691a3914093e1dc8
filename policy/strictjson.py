"""JSON from strangers: parsed completely and unambiguously, or refused.

The standard library's reader keeps the last of two members with one name, accepts ``NaN`` and unbounded integers, and
recurses until the interpreter gives up. Two readers that disagree about a document are a security bug once a hash of
it is compared, so this reader refuses duplicates, non-finite numbers, integers beyond 64 bits and deep nesting.
Source for the need: RFC 8725 section 2.4, RFC 8259 section 4.
"""

from __future__ import annotations

import json
import re

from policy.errors import MalformedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

# Possessive, so that hostile text is passed over once.
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"\\'))
# What stands before a number, as one byte, and digits as another.
_NUMBERS = bytes.maketrans(b":,[- \t\n\r123456789", b":" * 8 + b"0" * 9)
_BRACKET = re.compile(r"[\[\]{}]")
MAX_DEPTH = 32
MAX_INTEGER = 2**64 - 1


def strict_json(
    data: bytes | str,
    what: str,
    *,
    max_bytes: int = 1 << 20,
    fractions: bool = True,
    error: type[MalformedInput] = MalformedInput,
) -> Any:
    """Parse ``data`` (UTF-8, at most ``max_bytes`` bytes) or raise ``error``; ``what`` begins the message.

    Without ``fractions`` every number has to be an integer as JSON writes one.
    """
    text = _text(data, what, max_bytes, error)
    _check_depth(text, what, error)

    def pairs(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(items)
        if len(members) != len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise error(f"{what}: member {_shown(twice)} appears twice, want once")
        return members

    def constant(name: str) -> NoReturn:
        raise error(f"{what}: number {name} is not JSON")

    def integer(digits: str) -> int:
        if len(digits) > 21 or abs(int(digits)) > MAX_INTEGER:
            raise error(f"{what}: integer of {len(digits)} digits, want at most 64 bits")
        return int(digits)

    def number(digits: str) -> float:
        if not fractions:
            raise error(f"{what}: number {digits[:40]} is not an integer")
        return _double(digits, what, error)

    integers = integer if _has_long_number(text) else None
    try:
        return json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=integers, parse_float=number
        )
    except json.JSONDecodeError as exc:
        raise error(f"{what}: not JSON at line {exc.lineno} column {exc.colno}: {exc.msg}") from None


def _has_long_number(text: str) -> bool:
    """Whether a number may have 19 digits: without one no integer leaves 64 bits, and the reader's own conversion,
    which is much faster, will do. Digits in hexadecimal strings seldom look like one.
    """
    marked = b":" + text.encode("utf-8", "surrogatepass").translate(_NUMBERS)
    return b":" + b"0" * 19 in marked


def _double(digits: str, what: str, error: type[MalformedInput]) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise error(f"{what}: number {digits[:40]} is beyond what a double holds")
    return value


def _text(data: bytes | str, what: str, max_bytes: int, error: type[MalformedInput]) -> str:
    if len(data) > max_bytes:
        raise error(f"{what}: {len(data)} bytes, want at most {max_bytes}")
    if isinstance(data, str):
        text = data
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise error(f"{what}: byte {exc.start} is not UTF-8") from None
    if "\\u" in text and "\\ud" in text.lower():
        _refuse_lone_surrogates(text, what, error)
    return text


def _refuse_lone_surrogates(text: str, what: str, error: type[MalformedInput]) -> None:
    """Escapes such as ``\\ud800`` alone make strings that no encoder can write back."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise error(f"{what}: a string holds a lone surrogate escape") from None
    except (ValueError, RecursionError):
        return  # said better by the strict pass that follows


def _is_shallow(text: str) -> bool:
    """Whether ``text`` is surely nested at most MAX_DEPTH deep; ``False`` says nothing.

    Where no quote is left when adjacent ones are gone, every bracket has an even number of quotes before it (nothing is
    escaped), so none of them is inside a string. Then a round takes away at most two levels.
    """
    rest = text.encode("utf-8", "surrogatepass").translate(None, _NO_STRUCTURE).replace(b'""', b"")
    for _ in range(MAX_DEPTH // 2):
        rest = rest.replace(b"{}", b"").replace(b"[]", b"")
        if not rest:
            return True
    return False


def _check_depth(text: str, what: str, error: type[MalformedInput]) -> None:
    """Before ``json`` recurses. A string that never ends hides what follows it, which is no JSON either way."""
    if _is_shallow(text):
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise error(f"{what}: nested deeper than {MAX_DEPTH}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:40] + "…")

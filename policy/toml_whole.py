"""All of TOML 1.0.0, by the standard library, once a document was found to hold no more than it can take.

The standard library's reader keeps a tuple of every prefix of a dotted key: a key of 100 000 parts, 200 kB of text,
asks it for 40 GB and as many seconds as that takes; a table's header of many parts costs the same again for each key
under it. It spends a kilobyte on each table, and 120 bytes on each digit of a number. So what a document may hold is
counted first, in one pass that knows only strings and comments. That pass may misread what follows a mistake; the real
reader stops at the mistake.
Grammar: TOML 1.0.0, "String", "Comment", "Keys".
"""

from __future__ import annotations

import re
import tomllib

from policy.toml import MAX_DOTS, MAX_KEYS, MAX_WORD, TomlInvalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPAQUE = re.compile(
    r'"""(?:[^"\\]++|\\[\s\S]|"(?!""))*+"{0,5}'
    r"|'''(?:[^']++|'(?!''))*+'{0,5}"
    r'|"(?:[^"\\\n]++|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+"
)
"""Strings and comments. Every branch takes an end that is missing as well, so no byte is looked at twice."""
_MANY_DOTS = re.compile(rf"(?:\.[^.\n]*+){{{MAX_DOTS + 1}}}")

_WORD = "[0-9A-Za-z_+.:-]"
_LONG_WORD = re.compile(rf"(?<!{_WORD}){_WORD}{{{MAX_WORD + 1}}}")


def whole_toml(text: str) -> dict[str, Any]:
    """Parse, or raise :class:`policy.toml.TomlInvalid`."""
    _check_amounts(text)
    try:
        return tomllib.loads(text)
    except ValueError as exc:  # TOMLDecodeError, or an integer of absurd length
        raise TomlInvalid(f"not TOML: {str(exc)[:200]}") from None
    except RecursionError:
        raise TomlInvalid("not TOML: nested too deeply") from None


def _check_amounts(text: str) -> None:
    bare = _OPAQUE.sub("", text)
    for sign in "=[{":
        if (count := bare.count(sign)) > MAX_KEYS:
            raise TomlInvalid(f"{count} times {sign!r} outside strings, want at most {MAX_KEYS}")
    if _MANY_DOTS.search(bare):
        raise TomlInvalid(f"a line with more than {MAX_DOTS} dots outside strings, want shorter keys")
    if _LONG_WORD.search(bare):
        raise TomlInvalid(f"a key or number of more than {MAX_WORD} characters")

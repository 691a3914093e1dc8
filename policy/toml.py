"""TOML from operators and strangers: read in time and memory in proportion to its length, or refused.

What is plain (`policy.plain_toml`) is read without loading the reader of the whole grammar (`policy.toml_whole`).
"""

from __future__ import annotations

from policy.errors import MalformedInput
from policy.plain_toml import plain_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_BYTES = 1 << 20
MAX_KEYS = 4096
"""Of ``=``, and of ``[`` and ``{`` each: our largest document has a few hundred."""
MAX_DOTS = 16
"""On one line, outside strings and comments: a key of 17 parts, and a key cannot span lines."""
MAX_WORD = 1024
"""Characters of a number, a date or a bare key."""


class TomlInvalid(MalformedInput):
    """Not TOML, or more of it than is read here."""

    code = "input.toml"


def strict_toml(data: bytes | str) -> dict[str, Any]:
    """Parse a document of at most :data:`MAX_BYTES` bytes, or raise :class:`TomlInvalid`; its message is a clause."""
    text = _text(data)
    plain = plain_toml(text)
    if plain is not None:
        return plain
    from policy.toml_whole import whole_toml

    return whole_toml(text)


def _text(data: bytes | str) -> str:
    """A character is at least a byte, so the first comparison never refuses what the second would take."""
    raw = data if isinstance(data, bytes) or len(data) > MAX_BYTES else data.encode("utf-8", "surrogatepass")
    if len(raw) > MAX_BYTES:
        raise TomlInvalid(f"{len(raw)} bytes, want at most {MAX_BYTES}")
    try:
        return data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as exc:
        raise TomlInvalid(f"byte {exc.start} is not UTF-8") from None

"""What stands behind the question mark of an operators' request, read the same way by every handler."""

from __future__ import annotations

from attest.broker.errors import RequestMalformed
from attest.web.routes import Call


def flag(call: Call, name: str) -> bool:
    """``1`` or ``0``, or absent for ``0``. Raises RequestMalformed."""
    value = call.query.get(name, "0")
    if value not in ("0", "1"):
        raise RequestMalformed(f"{name}: got {value[:20]!r}, want 0 or 1")
    return value == "1"


def number(call: Call, name: str, digits: int = 7) -> int | None:
    """A number of at most so many digits; ``None`` where it is absent. Raises RequestMalformed."""
    value = call.query.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) <= digits):
        raise RequestMalformed(f"{name}: got {value[:20]!r}, want a number")
    return int(value)


def names(call: Call, name: str) -> tuple[str, ...] | None:
    """Several, with commas between them; ``None`` where it is absent."""
    value = call.query.get(name)
    return None if value is None else tuple(value.split(","))

"""How values are written on QEMU's command line."""

from __future__ import annotations

import json
from base64 import b64encode


def json_value(**members: object) -> str:
    """Compact JSON in the order given; underscores in names become hyphens."""
    return json.dumps({name.replace("_", "-"): value for name, value in members.items()}, separators=(",", ":"))


def json_text(members: dict[str, object]) -> str:
    """Compact JSON of names as they are, in the order given."""
    return json.dumps(members, separators=(",", ":"))


def base64_text(data: bytes) -> str:
    """Binary members of JSON objects."""
    return b64encode(data).decode("ascii")


def word(text: str) -> str:
    """A value inside a ``k=v`` list: commas are doubled (QemuOpts)."""
    return text.replace(",", ",,")

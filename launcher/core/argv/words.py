"""How values are written on QEMU's command line."""

from __future__ import annotations

import json


def json_value(**members: object) -> str:
    """Compact JSON in the order given; underscores in names become hyphens."""
    return json.dumps({name.replace("_", "-"): value for name, value in members.items()}, separators=(",", ":"))


def word(text: str) -> str:
    """A value inside a ``k=v`` list: commas are doubled (QemuOpts)."""
    return text.replace(",", ",,")

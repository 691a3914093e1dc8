"""How values are written on QEMU's command line."""

from __future__ import annotations

from binascii import b2a_base64

from policy.plain_json import dumps


def json_value(**members: object) -> str:
    """Compact JSON in the order given; underscores in names become hyphens."""
    return dumps({name.replace("_", "-"): value for name, value in members.items()})


def json_text(members: dict[str, object]) -> str:
    """Compact JSON of names as they are, in the order given."""
    return dumps(members)


def base64_text(data: bytes) -> str:
    """Binary members of JSON objects."""
    return b2a_base64(data, newline=False).decode("ascii")


def word(text: str) -> str:
    """A value inside a ``k=v`` list: commas are doubled (QemuOpts)."""
    return text.replace(",", ",,")

"""The JSON area of a LUKS2 header: the one profile of keyslots, segment and digest that is opened.

What the profile is and why nothing else is opened stands in :mod:`policy.luks_header`, which reads the binary header
around it. Every object has exactly the members named here, so that a flag, a token or a requirement is refused by name.

Source: *LUKS2 On-Disk Format Specification* 1.1.3, section 3.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import NamedTuple

from policy.errors import MalformedInput
from policy.strictjson import strict_json

PAYLOAD_OFFSET = 16 * 1024 * 1024
BINARY_BYTES = 4096
CIPHER = "aes-xts-plain64"
KEY_BYTES = 64
STRIPES = 4000
SECTOR_BYTES = 4096
# The key is 256 random bits, so iterations need not slow anybody down; the upper bound keeps the host from stalling
# the boot.
ITERATIONS = range(1000, 50_000_001)
SLOTS = ("0", "1")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


class HeaderRefused(MalformedInput):
    """The disk's LUKS2 header is not of the one profile, or not the one the key service knows."""

    code = "guest.luks-header"


class Keyslot(NamedTuple):
    """A keyslot's number and where its area lies, in bytes from the beginning of the disk."""

    number: int
    start: int
    size: int
    iterations: int


def check_metadata(text: bytes, header_bytes: int) -> tuple[Keyslot, ...]:
    """The keyslots in ``text``, the JSON of a header of ``header_bytes``. Raises :class:`HeaderRefused`."""
    # Two readers see this text, ours and cryptsetup's json-c: leave out what they might read differently.
    if b"\\" in text or not text.isascii():
        raise HeaderRefused("LUKS JSON: has escapes or bytes beyond ASCII, want plain text as cryptsetup writes it")
    root = strict_json(text, "LUKS JSON", max_bytes=header_bytes, error=HeaderRefused)
    _members(root, "JSON", "keyslots", "tokens", "segments", "digests", "config")
    same("JSON", "tokens", root["tokens"], {})
    _config(root["config"], header_bytes)
    _segment(_single(root["segments"], "segments"))
    slots = _keyslots(root["keyslots"], header_bytes)
    _digest(_single(root["digests"], "digests"), [str(slot.number) for slot in slots])
    return slots


def _keyslots(value: object, header_bytes: int) -> tuple[Keyslot, ...]:
    if not isinstance(value, dict):
        raise HeaderRefused(f"keyslots: {value!r:.80} is not an object")
    if not 0 < len(value) <= len(SLOTS) or not set(value) <= set(SLOTS):
        raise HeaderRefused(f"keyslots: got {len(value)} ({', '.join(value)[:60]}), want one, called 0 or 1, or both")
    slots = tuple(_keyslot(value[name], int(name), header_bytes) for name in sorted(value))
    if len(slots) == 2 and abs(slots[0].start - slots[1].start) < max(slots[0].size, slots[1].size):
        raise HeaderRefused("keyslots: the areas of 0 and 1 overlap")
    return slots


def _config(config: object, header_bytes: int) -> None:
    """Section 3.6. ``flags`` and ``requirements`` are extra members here, so they are refused by name."""
    members = _members(config, "config", "json_size", "keyslots_size")
    same("config", "json_size", members["json_size"], str(header_bytes - BINARY_BYTES))
    size = _number(members["keyslots_size"], "config.keyslots_size")
    if 2 * header_bytes + size > PAYLOAD_OFFSET:
        raise HeaderRefused(f"config: keyslots_size {size} reaches beyond the payload offset {PAYLOAD_OFFSET}")


def _segment(segment: object) -> None:
    """Section 3.4. ``integrity`` and ``flags`` are extra members here."""
    _exactly(segment, "segment 0", {
        "type": "crypt", "offset": str(PAYLOAD_OFFSET), "size": "dynamic", "iv_tweak": "0", "encryption": CIPHER,
        "sector_size": SECTOR_BYTES,
    })  # fmt: skip


def _digest(digest: object, keyslots: list[str]) -> None:
    """Section 3.5. It names every keyslot: one that is not bound to it would open something else."""
    fixed: dict[str, object] = {"type": "pbkdf2", "segments": ["0"], "hash": "sha256"}
    members = _exactly(digest, "digest 0", fixed, "keyslots", "iterations", "salt", "digest")
    named = members["keyslots"]
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named) or sorted(named) != keyslots:
        raise HeaderRefused(f"digest 0: keyslots {named!r:.80}, want {keyslots!r}")
    _iterations(members["iterations"], "digest 0")
    _base64(members["salt"], "digest 0 salt")
    _base64(members["digest"], "digest 0 digest")


def _keyslot(keyslot: object, number: int, header_bytes: int) -> Keyslot:
    """Section 3.2. ``priority`` is an extra member here; ``reencrypt`` is another type."""
    where = f"keyslot {number}"
    members = _exactly(keyslot, where, {"type": "luks2", "key_size": KEY_BYTES}, "af", "area", "kdf")
    _exactly(members["af"], f"{where} af", {"type": "luks1", "stripes": STRIPES, "hash": "sha256"})
    start, size = _area(members["area"], f"{where} area", header_bytes)
    kdf = _exactly(members["kdf"], f"{where} kdf", {"type": "pbkdf2", "hash": "sha256"}, "iterations", "salt")
    _base64(kdf["salt"], f"{where} kdf.salt")
    return Keyslot(number, start, size, _iterations(kdf["iterations"], f"{where} kdf"))


def _area(value: object, where: str, header_bytes: int) -> tuple[int, int]:
    """Offset and size of a keyslot's area, inside the header and behind both copies."""
    fixed: dict[str, object] = {"type": "raw", "encryption": CIPHER, "key_size": KEY_BYTES}
    area = _exactly(value, where, fixed, "offset", "size")
    start, size = _number(area["offset"], f"{where}.offset"), _number(area["size"], f"{where}.size")
    if start < 2 * header_bytes or size < STRIPES * KEY_BYTES or start + size > PAYLOAD_OFFSET:
        raise HeaderRefused(
            f"{where}: {start}..{start + size}, want at least {STRIPES * KEY_BYTES} bytes"
            f" inside {2 * header_bytes}..{PAYLOAD_OFFSET}"
        )
    return start, size


def _members(value: object, where: str, *names: str) -> dict[str, object]:
    """``value`` as an object with exactly the members ``names``."""
    if not isinstance(value, dict):
        raise HeaderRefused(f"{where}: {value!r:.80} is not an object")
    missing, extra = sorted(set(names) - set(value)), sorted(set(value) - set(names))
    if missing or extra:
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(extra)[:120]} besides"] * bool(extra)
        raise HeaderRefused(f"{where}: {' and '.join(said)}, want exactly {', '.join(names)}")
    return value


def _exactly(value: object, where: str, fixed: dict[str, object], *free: str) -> dict[str, object]:
    """``value`` has the members ``fixed`` with these very values, and ``free`` with others."""
    # The type first: "reencrypt" or "luks1" explains more than the members that come with it.
    if isinstance(value, dict) and "type" in value and "type" in fixed:
        same(where, "type", value["type"], fixed["type"])
    members = _members(value, where, *fixed, *free)
    for name, want in fixed.items():
        same(where, name, members[name], want)
    return members


def _single(value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise HeaderRefused(f"{where}: {value!r:.80} is not an object")
    if list(value) != ["0"]:
        raise HeaderRefused(f"{where}: got {len(value)} ({', '.join(value)[:60]}), want exactly one, called 0")
    return value["0"]


def same(where: str, name: str, got: object, want: object) -> None:
    """Equal and of one type (``1`` is not ``true``)."""
    if type(got) is not type(want) or got != want:
        raise HeaderRefused(f"{where}: {name} {_shown(got)}, want {_shown(want)}")


def _shown(value: object) -> str:
    return value[:40].hex() if isinstance(value, bytes) else f"{value!r:.80}"


def _number(value: object, where: str) -> int:
    """Numbers beyond 32 bits are decimal strings in this format (section 3)."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise HeaderRefused(f"{where}: {value!r:.80}, want a decimal number as a string")
    return int(value)


def _iterations(value: object, where: str) -> int:
    if type(value) is not int or value not in ITERATIONS:
        raise HeaderRefused(f"{where}: iterations {value!r:.40}, want {ITERATIONS.start} to {ITERATIONS.stop - 1}")
    return value


def _base64(value: object, where: str) -> None:
    try:
        data = b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != 32:
        raise HeaderRefused(f"{where}: {value!r:.60}, want base64 of 32 bytes")

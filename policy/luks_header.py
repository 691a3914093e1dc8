"""LUKS2 header: one profile is opened, everything else is refused before a key comes near it.

The header lies on a disk the host controls and carries no signature. A host that may choose it can name a null cipher
(the guest then writes plaintext), add a keyslot of its own, or pretend an interrupted re-encryption that decrypts the
disk (CVE-2025-59054, CVE-2025-58356, and the re-encryption recovery flaw of 2022). So the agent copies the header
into memory, checks the copy against the allow-list below, and opens the disk with that copy: what was checked is what
is used.

    a binary header: magic, version 2, size, sha256 checksum, no label, no subsystem; two copies, alike
    JSON   1 keyslot, called 0 or 1 (luks2, 512 bit, AF luks1/sha256/4000 stripes, pbkdf2-sha256, area aes-xts-plain64
           in the header); both while a key is replaced
           0 tokens
           1 segment (crypt, offset 16 MiB, dynamic, iv_tweak 0, aes-xts-plain64, sector 4096; no integrity or flags)
           1 digest (pbkdf2-sha256) that ties the keyslots to segment 0
           config with json_size and keyslots_size: no flags, no requirements

**The header's digest**, by which the key service knows a disk's header, is a SHA-256 over what a key meets: uuid, JSON
text and the areas of the keyslots. It leaves out sequence number, salts and checksums of the binary headers, by which
two copies of one header differ, and the unused rest of the keyslots area. Opening and using a disk changes none of it;
adding or removing a keyslot does. So a disk whose key service names a digest is opened with any valid copy that has
it, also where power failed while the other copy was written.

Source: *LUKS2 On-Disk Format Specification* 1.1.3, sections 2 and 3; binary fields are big-endian.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Iterator
from typing import NamedTuple

from policy.errors import MalformedInput
from policy.strictjson import strict_json
from policy.wire import ByteReader

PAYLOAD_OFFSET = 16 * 1024 * 1024
BINARY_BYTES = 4096
HEADER_SIZES = tuple(1 << shift for shift in range(14, 23))  # 16 KiB … 4 MiB, specification section 2.1
CIPHER = "aes-xts-plain64"
KEY_BYTES = 64
STRIPES = 4000
SECTOR_BYTES = 4096
# The key is 256 random bits, so iterations need not slow anybody down; the upper bound keeps the host from stalling
# the boot.
ITERATIONS = range(1000, 50_000_001)
FIRST_MAGIC, SECOND_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
SLOTS = ("0", "1")
_OFFSET_AT, _CHECKSUM_AT = 256, 448
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class HeaderRefused(MalformedInput):
    """The disk's LUKS2 header is not of the one profile, or not the one the key service knows."""

    code = "guest.luks-header"


class Keyslot(NamedTuple):
    """A keyslot's number and where its area lies, in bytes from the beginning of the disk."""

    number: int
    start: int
    size: int
    iterations: int


class LuksHeader(NamedTuple):
    """One copy of a header of the profile: what it may still choose. ``at`` is where the copy begins."""

    uuid: str
    header_bytes: int
    sequence: int
    slots: tuple[Keyslot, ...]
    text: bytes
    at: int = 0

    def alike(self, other: LuksHeader) -> bool:
        """Whether this is the other copy of the same header."""
        return self._replace(at=0) == other._replace(at=0)


class _Binary(NamedTuple):
    size: int
    sequence: int
    uuid: bytes
    text: bytes


def check_luks_header(data: bytes) -> LuksHeader:
    """``data``: the beginning of the disk, both binary headers with their JSON areas at least. Both copies must be
    alike and have one keyslot: nobody is asked.

    Raises :class:`HeaderRefused` with what, where, got, want.
    """
    first = _binary(data, "first header", FIRST_MAGIC, 0)
    second = _binary(data, "second header", SECOND_MAGIC, first.size)
    if first != second:
        differing = ", ".join(n for n in _Binary._fields if getattr(first, n) != getattr(second, n))
        raise HeaderRefused(f"LUKS header: the two copies differ in {differing}, want them alike")
    header = _header(first, 0)
    if len(header.slots) != 1:
        raise HeaderRefused(f"keyslots: got {len(header.slots)}, want exactly one")
    return header


def valid_copies(data: bytes) -> tuple[LuksHeader, ...]:
    """The copies of the profile, one keyslot or two, alike or not. Raises HeaderRefused where there is none.

    Two alike copies are given once. Which header a disk with other than one alike pair really has only somebody can
    say who knows its digest: :func:`recognise`.
    """
    found: list[LuksHeader] = []
    problem: HeaderRefused | None = None
    for what, magic, offset in _places(data):
        try:
            found.append(_header(_binary(data, what, magic, offset), offset))
        except HeaderRefused as exc:
            problem = problem or exc
    if not found and problem is not None:
        raise problem
    return tuple(found[:1] if len(found) == 2 and found[0].alike(found[1]) else found)


def recognise(data: bytes, digests: frozenset[str]) -> LuksHeader:
    """The header of ``data`` (16 MiB) whose digest is one of ``digests``. Raises HeaderRefused."""
    copies = valid_copies(data)
    seen = [header_digest(data, copy) for copy in copies]
    for copy, digest in zip(copies, seen, strict=True):
        if digest in digests:
            return copy
    raise HeaderRefused(
        f"LUKS header: digest {' and '.join(seen)}, want {' or '.join(sorted(digests))}: "
        "not the header that the key service knows for this disk"
    )


def header_digest(data: bytes, header: LuksHeader) -> str:
    """SHA-256, hexadecimal, of header and keyslots' areas (see above). Raises HeaderRefused where ``data`` is cut."""
    parts = [b"cvm.luks-header/1", header.uuid.encode("ascii"), header.text]
    for slot in header.slots:
        area = data[slot.start : slot.start + slot.size]
        if len(area) != slot.size:
            raise HeaderRefused(f"keyslot {slot.number}: area {slot.start}..{slot.start + slot.size} is cut off")
        parts += [str(slot.number).encode("ascii"), area]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(4, "big"))
        whole.update(part)
    return whole.hexdigest()


def in_both_copies(data: bytes, header: LuksHeader) -> bytes:
    """``data`` with ``header``, one of its copies, in both places (specification section 2.1: what differs there)."""
    size = header.header_bytes
    made = bytearray(data)
    for what, magic, offset in (("first header", FIRST_MAGIC, 0), ("second header", SECOND_MAGIC, size)):
        if not _holds(data, what, magic, offset, header):
            copy = bytearray(data[header.at : header.at + size])
            copy[:6] = magic
            copy[_OFFSET_AT : _OFFSET_AT + 8] = offset.to_bytes(8, "big")
            copy[_CHECKSUM_AT : _CHECKSUM_AT + 64] = bytes(64)
            copy[_CHECKSUM_AT : _CHECKSUM_AT + 64] = hashlib.sha256(copy).digest().ljust(64, b"\0")
            made[offset : offset + size] = copy
    return bytes(made)


def _holds(data: bytes, what: str, magic: bytes, offset: int, header: LuksHeader) -> bool:
    try:
        return _header(_binary(data, what, magic, offset), offset).alike(header)
    except HeaderRefused:
        return False


def _places(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Where copies may be: the second one's place is known from its magic where the first one does not say."""
    yield "first header", FIRST_MAGIC, 0
    for size in HEADER_SIZES:
        if data[size : size + 6] == SECOND_MAGIC:
            yield "second header", SECOND_MAGIC, size
            return


def _header(binary: _Binary, at: int) -> LuksHeader:
    slots = _metadata(binary)
    return LuksHeader(binary.uuid.decode("ascii"), binary.size, binary.sequence, slots, binary.text, at)


def _binary(data: bytes, what: str, magic: bytes, offset: int) -> _Binary:
    """One binary header with its JSON area (specification section 2.1, figure 2)."""
    reader = ByteReader(data[offset : offset + BINARY_BYTES], f"LUKS {what}", error=HeaderRefused, base=offset)
    _same(what, "magic", reader.take(6, "magic"), magic)
    _same(what, "version", reader.u16be("version"), 2)
    size = int.from_bytes(reader.take(8, "hdr_size"), "big")
    if size not in HEADER_SIZES or (offset and size != offset):
        raise HeaderRefused(f"{what}: hdr_size {size}, want {offset or 'a power of two from 16 KiB to 4 MiB'}")
    sequence = int.from_bytes(reader.take(8, "seqid"), "big")
    reader.zero(48, "label")
    _same(what, "csum_alg", reader.take(32, "csum_alg"), b"sha256".ljust(32, b"\0"))
    reader.skip(64, "salt")
    uuid = reader.take(40, "uuid").rstrip(b"\0")
    if not _UUID.fullmatch(uuid):
        raise HeaderRefused(f"{what}: uuid {uuid[:40]!r} is none")
    reader.zero(48, "subsystem")
    _same(what, "hdr_offset", int.from_bytes(reader.take(8, "hdr_offset"), "big"), offset)
    reader.zero(184, "padding")
    checksum = reader.take(64, "csum")
    reader.zero(BINARY_BYTES - 512, "padding4096")
    whole = bytearray(data[offset : offset + size])
    whole[_CHECKSUM_AT : _CHECKSUM_AT + 64] = bytes(64)
    _same(what, "csum", checksum, hashlib.sha256(whole).digest().ljust(64, b"\0"))
    text, _, rest = bytes(whole[BINARY_BYTES:]).partition(b"\0")
    if any(rest):
        raise HeaderRefused(f"{what}: bytes follow the JSON text, want zeros to the end of the area")
    return _Binary(size, sequence, uuid, text)


def _metadata(binary: _Binary) -> tuple[Keyslot, ...]:
    """The JSON area (specification section 3); returns its keyslots."""
    # Two readers see this text, ours and cryptsetup's json-c: leave out what they might read differently.
    if b"\\" in binary.text or not binary.text.isascii():
        raise HeaderRefused("LUKS JSON: has escapes or bytes beyond ASCII, want plain text as cryptsetup writes it")
    root = strict_json(binary.text, "LUKS JSON", max_bytes=binary.size, error=HeaderRefused)
    _members(root, "JSON", "keyslots", "tokens", "segments", "digests", "config")
    _same("JSON", "tokens", root["tokens"], {})
    _config(root["config"], binary.size)
    _segment(_single(root["segments"], "segments"))
    slots = _keyslots(root["keyslots"], binary.size)
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
    _same("config", "json_size", members["json_size"], str(header_bytes - BINARY_BYTES))
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
        _same(where, "type", value["type"], fixed["type"])
    members = _members(value, where, *fixed, *free)
    for name, want in fixed.items():
        _same(where, name, members[name], want)
    return members


def _single(value: object, where: str) -> object:
    if not isinstance(value, dict):
        raise HeaderRefused(f"{where}: {value!r:.80} is not an object")
    if list(value) != ["0"]:
        raise HeaderRefused(f"{where}: got {len(value)} ({', '.join(value)[:60]}), want exactly one, called 0")
    return value["0"]


def _same(where: str, name: str, got: object, want: object) -> None:
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

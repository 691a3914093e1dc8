"""What `cvm explain` needs of a quote and an event log, **unverified**: the measurements, and the events in words.

Sources: Intel, *TDX DCAP Quoting Library API*, "Quote format", versions 4 and 5; TCG, *PC Client Platform Firmware
Profile* 1.06, section 10 (crypto-agile log); Intel, *TDX Virtual Firmware Design Guide*, section 8 (a TD's log counts
registers from 1). The log of a TPM is read as well, its PCRs standing for registers as in an emulated TD.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha384

from launcher.core.text import safe_text
from policy.errors import MalformedInput, UnsupportedInput
from policy.measured import MeasuredEvent, replay
from policy.named import NamedTuple
from policy.wire import ByteReader

_HEADER = 48
_TDX = 0x81
_TD_BODIES = {2: 584, 3: 648}
_MRTD, _RTMR0 = 136, 328
_MAX_LOG = 16 << 20
_MAX_EVENTS = 50_000
_NO_ACTION, _SEPARATOR, _TAG, _ACTION, _AUTHORITY = 0x3, 0x4, 0x6, 0x80000007, 0x800000E0
_VARIABLES = (0x80000001, 0x80000002, 0x8000000C, _AUTHORITY)
_SHA384 = 0x0C
_TAGS = {0x8F3B22ED: "load-options", 0x8F3B22EC: "initrd"}  # Linux drivers/firmware/efi/libstub
_REGISTER_OF_PCR = {1: 0, 7: 0, **dict.fromkeys(range(2, 7), 1), **dict.fromkeys(range(8, 16), 2)}
_REGISTER_OF_INDEX = {index: index - 1 for index in range(1, 5)}


class TdRegistersReported(NamedTuple):
    """MRTD and RTMR0 to RTMR3, 48 bytes each."""

    mrtd: bytes
    rtmrs: tuple[bytes, ...]


class Logged(NamedTuple):
    """One entry of a log: ``mr_index`` is a PCR, or a TD's register counted from 1."""

    mr_index: int
    type: int
    digest: bytes
    data: bytes


def is_td_quote(data: bytes) -> bool:
    """Whether bytes begin like a quote of a TD."""
    return data[:2] in (b"\4\0", b"\5\0") and data[4:8] == _TDX.to_bytes(4, "little")


def registers_of_quote(data: bytes) -> TdRegistersReported:
    """The measurements in a quote of version 4 or 5; raises `policy.errors.MalformedInput`."""
    reader = ByteReader(data, "quote")
    version = reader.u16("version")
    reader.skip(2, "attestation key type")
    tee = reader.u32("tee type")
    if version not in (4, 5) or tee != _TDX:
        raise UnsupportedInput(
            f"quote: version {version}, tee type 0x{tee:X}: want 4 or 5 and 0x81", code="evidence.unsupported"
        )
    reader.skip(_HEADER - reader.offset, "header")
    if version == 5:
        kind, size = reader.u16("body type"), reader.u32("body size")
        if _TD_BODIES.get(kind) != size:
            raise UnsupportedInput(
                f"quote: body type {kind} of {size} bytes: want a TD report", code="evidence.unsupported"
            )
    reader.skip(_MRTD, "fields before MRTD")
    mrtd = reader.take(48, "MRTD")
    reader.skip(_RTMR0 - _MRTD - 48, "fields before RTMR0")
    return TdRegistersReported(mrtd, tuple(reader.take(48, f"RTMR{number}") for number in range(4)))


def log_entries(data: bytes) -> list[Logged]:
    """The measured entries of a crypto-agile log with SHA-384; what pads its end is passed over."""
    if len(data) > _MAX_LOG:
        raise _malformed(f"{len(data)} bytes, want at most {_MAX_LOG}")
    reader = ByteReader(data, "event log")
    sizes = _algorithms(reader)
    found: list[Logged] = []
    while reader.remaining:
        index, kind = reader.u32("index"), reader.u32("type")
        if index == 0xFFFFFFFF or (index, kind) == (0, 0):
            break
        count = reader.u32("digest count")
        if not 1 <= count <= len(sizes) or len(found) >= _MAX_EVENTS:
            raise _malformed(f"entry {len(found) + 1}: {count} digests, want 1..{len(sizes)}, in {_MAX_EVENTS} entries")
        digests: dict[int, bytes] = {}
        for _ in range(count):
            algorithm = reader.u16("algorithm")
            if algorithm not in sizes:
                raise _malformed(f"entry {len(found) + 1}: algorithm 0x{algorithm:X} is not in the header")
            digests[algorithm] = reader.take(sizes[algorithm], "digest")
        body = reader.take(reader.u32("data size"), "data")
        if kind != _NO_ACTION:
            found.append(Logged(index, kind, digests.get(_SHA384, b""), body))
    if any(len(entry.digest) != 48 for entry in found):
        raise _malformed("an entry has no SHA-384 digest")
    return found


def _malformed(text: str) -> MalformedInput:
    return MalformedInput(f"event log: {text}", code="evidence.malformed")


def _algorithms(reader: ByteReader) -> dict[int, int]:
    """The header entry: algorithm numbers and the sizes of their digests."""
    reader.skip(4 + 4 + 20, "header entry")
    body = ByteReader(reader.take(reader.u32("header size"), "header"), "event log header")
    if body.take(16, "signature") != b"Spec ID Event03\0":
        raise _malformed("header: want Spec ID Event03")
    body.skip(8, "class and version")
    count = body.u32("algorithm count")
    if not 1 <= count <= 16:
        raise _malformed(f"header: {count} algorithms, want 1..16")
    return {body.u16("algorithm"): body.u16("digest size") for _ in range(count)}


def events_that_replay(
    entries: Sequence[Logged], rtmrs: Sequence[bytes], expected: Sequence[MeasuredEvent]
) -> list[MeasuredEvent] | None:
    """The events in words if they replay to RTMR0 to RTMR2, read as a TD's log or else as a TPM's; ``None`` if
    neither. RTMR3 is not asked for: what software extends there need not be logged.
    """
    for mapping, known in ((_REGISTER_OF_INDEX, range(1, 5)), (_REGISTER_OF_PCR, range(24))):
        if not all(entry.mr_index in known for entry in entries):
            continue
        events = _named([entry for entry in entries if entry.mr_index in mapping], mapping, expected)
        if replay(events)[:3] == tuple(rtmrs[:3]):
            return events
    return None


def _named(
    entries: Sequence[Logged], mapping: dict[int, int], expected: Sequence[MeasuredEvent]
) -> list[MeasuredEvent]:
    """Names as `policy.measured` lists them. Where a log does not tell (a blob, an image), the n-th event of a register
    and type is taken for the n-th expected one: a guess that only decides what is laid beside what."""
    waiting: dict[tuple[int, int], list[str]] = {}
    for event in expected:
        waiting.setdefault((event.register, event.type), []).append(event.name)
    found = []
    for entry in entries:
        register = mapping[entry.mr_index]
        name, detail = _words(entry)
        names = waiting.get((register, entry.type), [])
        if not name:
            name = names.pop(0) if names else f"event:0x{entry.type:x}"
        found.append(MeasuredEvent(register, entry.type, entry.digest, name, detail))
    return found


def _words(entry: Logged) -> tuple[str, str]:
    """(name, detail); an empty name where the entry does not tell. A detail is only of data the digest covers."""
    if entry.type == _SEPARATOR:
        return "separator", ""
    if entry.type == _ACTION:
        return f"action:{safe_text(entry.data.decode('ascii', 'replace'), 100)}", ""
    if entry.type == _TAG and len(entry.data) >= 8:
        tag = int.from_bytes(entry.data[:4], "little")
        text = entry.data[8:].decode("utf-16-le", "replace").rstrip("\0")
        told = tag in _TAGS and sha384(entry.data[8:]).digest() == entry.digest
        return _TAGS.get(tag, f"event-tag:0x{tag:x}"), safe_text(text, 400) if told else ""
    if entry.type in _VARIABLES:
        return _variable(entry), ""
    return "", ""


def _variable(entry: Logged) -> str:
    """By the name inside UEFI_VARIABLE_DATA: vendor 16, name length in characters u64, data length u64, name."""
    characters = int.from_bytes(entry.data[16:24], "little")
    if len(entry.data) < 32 or characters > 256:
        return ""
    name = safe_text(entry.data[32 : 32 + 2 * characters].decode("utf-16-le", "replace"), 100)
    if entry.type == _AUTHORITY:
        return f"authority:{name}"
    if name == "BootOrder":
        return "boot-order"
    return f"boot-option:{name}" if name.startswith("Boot") and len(name) == 8 else f"variable:{name}"

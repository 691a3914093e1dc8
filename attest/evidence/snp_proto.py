"""The message ``sevsnp.Attestation`` of go-sev-guest's tools: a report field by field, with its certificates.

Google's attestation tool and libraries write it, in protobuf's wire format (here called proto) or as JSON. The
signature covers bytes, so the 1184 bytes are put together again; what the message has no field for is zero in every
report. Fields this release does not know are passed over: leaving out something that was signed only breaks the
signature. Source: go-sev-guest, ``proto/sevsnp.proto``; Protocol Buffers, *Encoding*.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Container, Mapping
from typing import NamedTuple

from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_report import REPORT_SIZE
from policy.wire import ByteReader

_INTEGERS = {  # number: name, offset, size in bytes
    1: ("version", 0x000, 4), 2: ("guest_svn", 0x004, 4), 3: ("policy", 0x008, 8), 6: ("vmpl", 0x030, 4),
    7: ("signature_algo", 0x034, 4), 8: ("current_tcb", 0x038, 8), 9: ("platform_info", 0x040, 8),
    10: ("signer_info", 0x048, 4), 18: ("reported_tcb", 0x180, 8), 20: ("committed_tcb", 0x1E0, 8),
    21: ("current_build", 0x1E8, 1), 22: ("current_minor", 0x1E9, 1), 23: ("current_major", 0x1EA, 1),
    24: ("committed_build", 0x1EC, 1), 25: ("committed_minor", 0x1ED, 1), 26: ("committed_major", 0x1EE, 1),
    27: ("launch_tcb", 0x1F0, 8), 30: ("launch_mit_vector", 0x1F8, 8), 31: ("current_mit_vector", 0x200, 8),
}  # fmt: skip
_BYTES = {
    4: ("family_id", 0x010, 16), 5: ("image_id", 0x020, 16), 11: ("report_data", 0x050, 64),
    12: ("measurement", 0x090, 48), 13: ("host_data", 0x0C0, 32), 14: ("id_key_digest", 0x0E0, 48),
    15: ("author_key_digest", 0x110, 48), 16: ("report_id", 0x140, 32), 17: ("report_id_ma", 0x160, 32),
    19: ("chip_id", 0x1A0, 64), 28: ("signature", 0x2A0, 512),
}  # fmt: skip
_EAX, _CPUID = 29, 0x188
_KNOWN = {*_INTEGERS, *_BYTES, _EAX}
_CERTIFICATES = {1: "vcek_cert", 6: "vlek_cert", 2: "ask_cert", 3: "ark_cert"}
_REPORT, _CHAIN = 1, 2
_VARINT, _SIXTY_FOUR, _LENGTH, _THIRTY_TWO = 0, 1, 2, 5
HEAD = re.compile(rb"\n[\x80-\xff][\x01-\x7f]\x08[\x01-\x7f](?:\x10[\x80-\xff]{0,4}[\x01-\x7f])?\x18")

Fields = Mapping[int, "int | bytes"]


class SnpProto(NamedTuple):
    """The rebuilt report, 1184 bytes, and DER of what came along; nothing is verified."""

    raw: bytes
    certificates: tuple[bytes, ...]


def looks_like_snp_proto(data: bytes) -> bool:
    """Whether a first field of the length of a report begins with a version, perhaps a guest SVN, and a policy."""
    return HEAD.match(data) is not None


def decode_snp_proto(data: bytes) -> SnpProto:
    """From the wire format; raises :class:`EvidenceMalformed`."""
    message = _fields(data, "proto", {_REPORT, _CHAIN})
    report, chain = message.get(_REPORT), message.get(_CHAIN, b"")
    if not isinstance(report, bytes) or not isinstance(chain, bytes):
        raise EvidenceMalformed("proto: want a report and a certificate chain as messages")
    certificates = _fields(chain, "proto: certificate_chain", _CERTIFICATES)
    found = tuple(der for der in map(certificates.get, _CERTIFICATES) if isinstance(der, bytes) and der)
    return SnpProto(_rebuild(_fields(report, "proto: report", _KNOWN)), found)


def decode_leading(data: bytes) -> SnpProto:
    """The message whose report and certificates begin ``data``, whatever follows; raises :class:`EvidenceMalformed`."""
    reader = ByteReader(data, "proto", error=EvidenceMalformed)
    end = 0
    for number in (_REPORT, _CHAIN):
        if not reader.remaining or _varint(reader) != number << 3 | _LENGTH:
            break
        reader.take(_varint(reader), f"field {number}")
        end = reader.offset
    return decode_snp_proto(data[:end])


def report_of_members(members: Mapping[str, object]) -> bytes | None:
    """The report in the message's JSON (either case of names, integers as such or as strings), ``None`` where it is
    something else. Raises :class:`EvidenceMalformed` for a field of another size.
    """
    named = {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): value for name, value in members.items()}
    if not all(isinstance(named.get(name), str) for name in ("signature", "measurement", "report_data")):
        return None
    fields: dict[int, int | bytes] = {}
    for number, name in (*((key, entry[0]) for key, entry in _INTEGERS.items()), (_EAX, "cpuid1eax_fms")):
        value = named.get(name, 0)
        if isinstance(value, str) and value.isdecimal() and len(value) <= 20:
            value = int(value)
        if type(value) is not int:
            return None
        fields[number] = value
    for number, (name, _, size) in _BYTES.items():
        fields[number] = _octets(named.get(name), size)
    return _rebuild(fields)


def _octets(text: object, size: int) -> bytes:
    """Base64, in which JSON has bytes, or hexadecimal: the length tells, where the digits of zeros would not."""
    if not isinstance(text, str):
        return b""
    try:
        return bytes.fromhex(text) if len(text) == 2 * size else base64.b64decode(text, validate=True)
    except ValueError:
        return b"?"  # of no field's size


def _rebuild(fields: Fields) -> bytes:
    raw = bytearray(REPORT_SIZE)
    for number, (name, offset, size) in _INTEGERS.items():
        value = fields.get(number, 0)
        if not isinstance(value, int) or not 0 <= value < 1 << 8 * size:
            raise EvidenceMalformed(f"proto: report: {name}: want an integer of {8 * size} bits")
        raw[offset : offset + size] = value.to_bytes(size, "little")
    for number, (name, offset, size) in _BYTES.items():
        data = fields.get(number, b"")
        if not isinstance(data, bytes) or len(data) not in (0, size):
            raise EvidenceMalformed(f"proto: report: {name}: want {size} bytes")
        raw[offset : offset + len(data)] = data
    raw[_CPUID : _CPUID + 3] = _cpuid(fields.get(_EAX, 0))
    return bytes(raw)


def _cpuid(eax: int | bytes) -> bytes:
    """Family and model combined, and stepping, as reports have them since version 3; zeros before."""
    if not isinstance(eax, int) or not 0 <= eax < 1 << 32:
        raise EvidenceMalformed("proto: report: cpuid1eax_fms: want an integer of 32 bits")
    family, model = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF), (eax >> 12 & 0xF0) + (eax >> 4 & 0xF)
    if family > 0xFF:
        raise EvidenceMalformed(f"proto: report: cpuid1eax_fms: 0x{eax:x} is of no family")
    return bytes((family, model, eax & 0xF))


def _fields(data: bytes, what: str, known: Container[int]) -> Fields:
    """The known fields by number; one that stands twice is refused, because readers disagree about it."""
    reader = ByteReader(data, what, error=EvidenceMalformed)
    found: dict[int, int | bytes] = {}
    while reader.remaining:
        tag = _varint(reader)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value = _varint(reader)
        elif kind == _LENGTH:
            value = bytes(reader.take(_varint(reader), f"field {number}"))
        elif kind in (_SIXTY_FOUR, _THIRTY_TWO):
            value = bytes(reader.take(8 if kind == _SIXTY_FOUR else 4, f"field {number}"))
        else:
            raise reader.fail(f"field {number} is of wire type {kind}")
        if number in found:
            raise reader.fail(f"field {number} stands twice, want it once")
        if number in known:
            found[number] = value
    return found


def _varint(reader: ByteReader) -> int:
    value = 0
    for place in range(0, 70, 7):
        byte = reader.u8("varint")
        value |= (byte & 0x7F) << place
        if byte < 0x80:
            if value >> 64:
                break
            return value
    raise reader.fail("varint of more than 64 bits")

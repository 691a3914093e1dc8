"""The SGX extension of a PCK certificate: which machine, at which TCB. Read strictly, entry by entry.

    1.2.840.113741.1.13.1   SEQUENCE OF SEQUENCE { OID, value }
      .1  PPID                   OCTET STRING (16)
      .2  TCB                    SEQUENCE OF the same: .2.1 to .2.16 INTEGER 0..255, .2.17 PCESVN INTEGER 0..65535,
                                 .2.18 CPUSVN OCTET STRING (16)
      .3  PCE id                 OCTET STRING (2)
      .4  FMSPC                  OCTET STRING (6)
      .5  SGX type               ENUMERATED 0 standard, 1 scalable, 2 scalable with integrity
      .6  platform instance id   OCTET STRING (16)                        } platform CA only
      .7  configuration          SEQUENCE OF: .7.1 dynamic platform,      }
                                 .7.2 cached keys, .7.3 SMT, BOOLEAN each }

The order is not promised, so entries are found by their OID; every one exactly once, none unknown. Source: Intel, *SGX
PCK Certificate and Certificate Revocation List Profile Specification*, revision 1.5, section 1.3.5.
"""

from __future__ import annotations

from typing import NamedTuple

from attest.evidence.der import exact_integer, exact_octets, read_element
from attest.evidence.errors import EvidenceMalformed

SGX_EXTENSION = "1.2.840.113741.1.13.1"
_PREFIX = bytes.fromhex("2a864886f84d010d01")
_OID, _SEQUENCE, _ENUMERATED, _BOOLEAN, _INTEGER = 0x06, 0x30, 0x0A, 0x01, 0x02
_WHAT = "SGX extension"
_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _PIID, _CONFIGURATION = range(1, 8)
_PCESVN, _CPUSVN = 17, 18
_TRUE, _FALSE = b"\x01\x01\xff", b"\x01\x01\x00"


class SgxExtension(NamedTuple):
    """``components`` are sixteen SVNs. The last four fields are ``None`` under the processor CA."""

    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    cpusvn: bytes
    pceid: bytes
    fmspc: bytes
    sgx_type: int
    piid: bytes | None
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


def parse_sgx_extension(data: bytes) -> SgxExtension:
    """The extension's value, completely. Raises :class:`EvidenceMalformed`."""
    entries = _entries(data, ())
    platform = _PIID in entries or _CONFIGURATION in entries
    _only(entries, range(1, 8) if platform else range(1, 6), "")
    tcb = _entries(entries[_TCB], (_TCB,))
    _only(tcb, range(1, 19), ".2")
    flags = _flags(entries[_CONFIGURATION]) if platform else (None, None, None)
    return SgxExtension(
        ppid=_octets(entries[_PPID], 16, "PPID"),
        components=tuple(exact_integer(tcb[n], f"{_WHAT}: component {n}", maximum=255) for n in range(1, 17)),
        pcesvn=exact_integer(tcb[_PCESVN], f"{_WHAT}: PCESVN", maximum=65535),
        cpusvn=_octets(tcb[_CPUSVN], 16, "CPUSVN"),
        pceid=_octets(entries[_PCEID], 2, "PCE id"),
        fmspc=_octets(entries[_FMSPC], 6, "FMSPC"),
        sgx_type=_sgx_type(entries[_TYPE]),
        piid=_octets(entries[_PIID], 16, "platform instance id") if platform else None,
        dynamic_platform=flags[0],
        cached_keys=flags[1],
        smt_enabled=flags[2],
    )


def _entries(data: bytes, path: tuple[int, ...]) -> dict[int, bytes]:
    """Number of each entry below ``path`` to its value, tag and length included."""
    content = _sequence(data)
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(content):
        tag, pair, offset = read_element(content, offset, _WHAT)
        if tag != _SEQUENCE:
            raise EvidenceMalformed(f"{_WHAT}: entry has tag 0x{tag:02x}, want a SEQUENCE")
        number, value = _pair(pair, path)
        if number in found:
            raise EvidenceMalformed(f"{_WHAT}: entry {number} appears twice")
        found[number] = value
    return found


def _pair(pair: bytes, path: tuple[int, ...]) -> tuple[int, bytes]:
    tag, oid, end = read_element(pair, 0, _WHAT)
    prefix = _PREFIX + bytes(path)
    if tag != _OID or len(oid) != len(prefix) + 1 or not oid.startswith(prefix) or oid[-1] >= 0x80:
        raise EvidenceMalformed(f"{_WHAT}: entry is named {oid[:16].hex()}, want {prefix.hex()} and one number")
    _, _, after = read_element(pair, end, _WHAT)
    if after != len(pair):
        raise EvidenceMalformed(f"{_WHAT}: entry {oid[-1]} has more than a name and a value")
    return oid[-1], pair[end:]


def _only(entries: dict[int, bytes], wanted: range, where: str) -> None:
    if set(entries) != set(wanted):
        odd = sorted(set(entries) ^ set(wanted))
        raise EvidenceMalformed(f"{_WHAT}: entries {', '.join(f'{where}.{n}' for n in odd)} are missing or unknown")


def _sequence(data: bytes) -> bytes:
    tag, content, end = read_element(data, 0, _WHAT)
    if tag != _SEQUENCE or end != len(data):
        raise EvidenceMalformed(f"{_WHAT}: want one SEQUENCE")
    return content


def _octets(data: bytes, length: int, word: str) -> bytes:
    value = exact_octets(data, f"{_WHAT}: {word}")
    if len(value) != length:
        raise EvidenceMalformed(f"{_WHAT}: {word}: got {len(value)} bytes, want {length}")
    return value


def _sgx_type(data: bytes) -> int:
    """ENUMERATED; encoded like an INTEGER in certificates of other tools, which is refused."""
    tag, content, end = read_element(data, 0, _WHAT)
    if tag != _ENUMERATED or end != len(data) or len(content) != 1 or content[0] > 2:
        raise EvidenceMalformed(f"{_WHAT}: SGX type: got {data[:8].hex()}, want ENUMERATED 0, 1 or 2")
    return content[0]


def _flags(data: bytes) -> tuple[bool, bool, bool]:
    entries = _entries(data, (_CONFIGURATION,))
    _only(entries, range(1, 4), ".7")
    return _boolean(entries[1]), _boolean(entries[2]), _boolean(entries[3])


def _boolean(data: bytes) -> bool:
    if data not in (_TRUE, _FALSE):
        raise EvidenceMalformed(f"{_WHAT}: configuration: got {data[:8].hex()}, want a BOOLEAN")
    return data == _TRUE

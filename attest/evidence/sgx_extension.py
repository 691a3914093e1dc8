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

from attest.evidence.der import SEQUENCE, content, elements, exact_integer, exact_octets
from attest.evidence.errors import EvidenceMalformed

SGX_EXTENSION = "1.2.840.113741.1.13.1"
_PREFIX = bytes.fromhex("2a864886f84d010d01")
_OID, _ENUMERATED = 0x06, b"\x0a\x01"
_WHAT = "SGX extension"
_PPID, _TCB, _PCEID, _FMSPC, _TYPE, _PIID, _CONFIGURATION = range(1, 8)
_PCESVN, _CPUSVN = 17, 18
_SVNS = tuple((number, f"{_WHAT}: component {number}") for number in range(1, 17))
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
        components=tuple([exact_integer(tcb[number], what, maximum=255) for number, what in _SVNS]),
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
    named = bytes((_OID, len(_PREFIX) + len(path) + 1)) + _PREFIX + bytes(path)
    found: dict[int, bytes] = {}
    for entry in elements(_sequence(data), _WHAT):
        if entry[0] != SEQUENCE:
            raise EvidenceMalformed(f"{_WHAT}: entry has tag 0x{entry[0]:02x}, want a SEQUENCE")
        number, value = _pair(entry[2:] if entry[1] < 0x80 else content(entry, _WHAT), named)
        if number in found:
            raise EvidenceMalformed(f"{_WHAT}: entry {number} appears twice")
        found[number] = value
    return found


def _pair(pair: bytes, named: bytes) -> tuple[int, bytes]:
    """The last number of an OID that begins with ``named``, and what follows: whoever reads that wants one element."""
    place = len(named)
    if len(pair) <= place or not pair.startswith(named) or pair[place] >= 0x80:
        raise EvidenceMalformed(f"{_WHAT}: entry is named {pair[:16].hex()}, want {named.hex()} and one number")
    return pair[place], pair[place + 1 :]


def _only(entries: dict[int, bytes], wanted: range, where: str) -> None:
    if set(entries) != set(wanted):
        odd = sorted(set(entries) ^ set(wanted))
        raise EvidenceMalformed(f"{_WHAT}: entries {', '.join(f'{where}.{n}' for n in odd)} are missing or unknown")


def _sequence(data: bytes) -> bytes:
    if data[:1] != bytes([SEQUENCE]):
        raise EvidenceMalformed(f"{_WHAT}: want one SEQUENCE, got {data[:4].hex()}")
    return content(data, _WHAT)


def _octets(data: bytes, length: int, word: str) -> bytes:
    value = exact_octets(data, f"{_WHAT}: {word}")
    if len(value) != length:
        raise EvidenceMalformed(f"{_WHAT}: {word}: got {len(value)} bytes, want {length}")
    return value


def _sgx_type(data: bytes) -> int:
    """ENUMERATED; encoded like an INTEGER in certificates of other tools, which is refused."""
    if len(data) != 3 or not data.startswith(_ENUMERATED) or data[2] > 2:
        raise EvidenceMalformed(f"{_WHAT}: SGX type: got {data[:8].hex()}, want ENUMERATED 0, 1 or 2")
    return data[2]


def _flags(data: bytes) -> tuple[bool, bool, bool]:
    entries = _entries(data, (_CONFIGURATION,))
    _only(entries, range(1, 4), ".7")
    return _boolean(entries[1]), _boolean(entries[2]), _boolean(entries[3])


def _boolean(data: bytes) -> bool:
    if data not in (_TRUE, _FALSE):
        raise EvidenceMalformed(f"{_WHAT}: configuration: got {data[:8].hex()}, want a BOOLEAN")
    return data == _TRUE

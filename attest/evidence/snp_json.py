"""The ``snp`` evidence of the Confidential Containers KBS protocol: a report spelled field by field in JSON.

The signature covers bytes, so the exact 1184 bytes are put together again. Three spellings are in use:

    current   ``{"fmc": null, "bootloader": 3, …}`` for a TCB, ``key_info``, ``current: {"major", "minor", "build"}``
    between   ``{"bootloader": 3, "tee": 0, "_reserved": [0,0,0,0], …}``, ``key_info``, ``current_build`` …, CPUID and
              ``_reserved_1`` of the 21 bytes after it
    older     as between, ``_author_key_en``, no CPUID, ``_reserved_1`` of 24 bytes

``fmc`` present means Turin's TCB layout. Members this release does not know are ignored: leaving out something that was
signed only breaks the signature. An optional member ``report`` carries the raw bytes in base64; where it stands beside
the spelling, both must agree. Source: Trustee, ``snp`` verifier evidence; AMD 56860, table "ATTESTATION_REPORT
Structure".
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from attest.evidence.cert_table import NAMES, CertEntry
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from policy.snp import TcbVersion

_INTEGERS = {  # member: offset, size in bytes
    "version": (0x000, 4), "guest_svn": (0x004, 4), "policy": (0x008, 8), "vmpl": (0x030, 4), "sig_algo": (0x034, 4),
    "plat_info": (0x040, 8),
}  # fmt: skip
_ARRAYS = {
    "family_id": (0x010, 16), "image_id": (0x020, 16), "report_data": (0x050, 64), "measurement": (0x090, 48),
    "host_data": (0x0C0, 32), "id_key_digest": (0x0E0, 48), "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32), "report_id_ma": (0x160, 32), "chip_id": (0x1A0, 64),
}  # fmt: skip
_TCBS = {"current_tcb": 0x038, "reported_tcb": 0x180, "committed_tcb": 0x1E0, "launch_tcb": 0x1F0}
_VERSIONS = {"current": 0x1E8, "committed": 0x1EC}
_OPTIONAL_INTEGERS = {
    "cpuid_fam_id": (0x188, 1), "cpuid_mod_id": (0x189, 1), "cpuid_step": (0x18A, 1), "launch_mit_vector": (0x1F8, 8),
    "current_mit_vector": (0x200, 8), "_reserved_0": (0x04C, 4), "_reserved_2": (0x1EB, 1), "_reserved_3": (0x1EF, 1),
}  # fmt: skip
# The older spelling keeps what it does not know in reserved arrays; later report versions put signed fields there.
_OPTIONAL_ARRAYS = {"_reserved_4": (0x1F8, 168)}
_RESERVED_1 = slice(0x188, 0x1A0)
_KEY_INFO = 0x048
_SIGNATURE = {"r": (0x2A0, 72), "s": (0x2E8, 72)}
_TAIL = 368
_TCB_PARTS = ("bootloader", "tee", "snp", "microcode")
_GUIDS = {name: guid for guid, name in NAMES.items()}
_MAX_CERTIFICATES = 16
_TURIN_FAMILY = 0x1A  # the layout of a TCB version follows the product


class SnpJson(NamedTuple):
    """A report and the certificates that came along, all unverified."""

    report: SnpReport
    certificates: tuple[CertEntry, ...]


def decode_snp_json(value: object) -> SnpJson:
    """From the parsed JSON of ``primary_evidence``; raises :class:`EvidenceMalformed` and nothing else."""
    evidence = _object(value, "snp evidence")
    spelled = evidence.get("attestation_report")
    raw = _raw(evidence["report"]) if "report" in evidence else None
    if spelled is None and raw is None:
        raise EvidenceMalformed("snp evidence: no attestation_report, want one")
    if spelled is not None:
        rebuilt = _rebuild(_object(spelled, "snp evidence: attestation_report"))
        if raw is not None and raw != rebuilt:
            raise EvidenceMalformed("snp evidence: report and attestation_report are different reports, want one")
        raw = rebuilt
    return SnpJson(SnpReport.parse(raw or b""), _certificates(evidence.get("cert_chain")))


def _raw(value: object) -> bytes:
    try:
        if not isinstance(value, str) or len(value) > 2 * REPORT_SIZE:
            raise ValueError
        return base64.b64decode(value.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise EvidenceMalformed(f"snp evidence: report: want base64 of {REPORT_SIZE} bytes") from None


def _rebuild(fields: Mapping[str, object]) -> bytes:
    raw = bytearray(REPORT_SIZE)
    for table in (_OPTIONAL_ARRAYS, _ARRAYS):
        for name, (offset, size) in table.items():
            if table is _ARRAYS or fields.get(name) is not None:
                raw[offset : offset + size] = _array(fields.get(name), size, name)
    raw[_RESERVED_1] = _reserved_1(fields.get("_reserved_1"))
    for name, (offset, size) in _INTEGERS.items():
        raw[offset : offset + size] = _integer(fields.get(name), size, name)
    for name, (offset, size) in _OPTIONAL_INTEGERS.items():
        if fields.get(name) is not None:
            raw[offset : offset + size] = _integer(fields[name], size, name)
    for name, offset in _TCBS.items():
        raw[offset : offset + 8] = _tcb(fields.get(name), name)
    for name, offset in _VERSIONS.items():
        raw[offset : offset + 3] = _firmware_version(fields, name)
    key_info = fields.get("key_info", fields.get("_author_key_en"))
    raw[_KEY_INFO : _KEY_INFO + 4] = _integer(key_info, 4, "key_info")
    raw[_SIGNATURE["r"][0] :] = _signature(fields.get("signature"))
    return bytes(raw)


def _reserved_1(value: object) -> bytes:
    """The 24 bytes before CHIP_ID: where a spelling names the CPUID, only those after it are reserved."""
    data = b"" if value is None else _array(value, None, "_reserved_1")
    if value is not None and len(data) not in (24, 21):
        raise EvidenceMalformed(f"snp evidence: _reserved_1: got {len(data)} bytes, want 24, or 21 beside the CPUID")
    return data.rjust(24, b"\0")


def _signature(value: object) -> bytes:
    """The 512 bytes of the signature field."""
    signature = _object(value, "snp evidence: signature")
    tail = signature.get("_reserved")
    numbers = [_array(signature.get(name), size, f"signature.{name}") for name, (_, size) in _SIGNATURE.items()]
    return b"".join(numbers) + (bytes(_TAIL) if tail is None else _array(tail, _TAIL, "signature._reserved"))


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise EvidenceMalformed(f"{what}: got {type(value).__name__}, want an object")
    return value


def _integer(value: object, size: int, name: str) -> bytes:
    if type(value) is not int or not 0 <= value < 1 << 8 * size:
        raise EvidenceMalformed(f"snp evidence: {name}: want an integer of {8 * size} bits")
    return value.to_bytes(size, "little")


def _array(value: object, size: int | None, name: str) -> bytes:
    """A JSON array of bytes, ``size`` of them."""
    try:
        if not isinstance(value, list) or not {int}.issuperset(map(type, value)):  # a bool is no byte
            raise ValueError
        data = bytes(value)
    except ValueError:
        raise EvidenceMalformed(f"snp evidence: {name}: want an array of bytes") from None
    if size is not None and len(data) != size:
        raise EvidenceMalformed(f"snp evidence: {name}: got {len(data)} bytes, want {size}")
    return data


def _tcb(value: object, name: str) -> bytes:
    parts = _object(value, f"snp evidence: {name}")
    numbers = {part: _integer(parts.get(part), 1, f"{name}.{part}")[0] for part in _TCB_PARTS}
    fmc = parts.get("fmc")
    if fmc is not None:
        fmc = _integer(fmc, 1, f"{name}.fmc")[0]
    if parts.get("_reserved") is not None and any(_array(parts["_reserved"], None, f"{name}._reserved")):
        raise EvidenceMalformed(f"snp evidence: {name}._reserved must be zero")
    return TcbVersion(**numbers, fmc=fmc).to_bytes()


def _firmware_version(fields: Mapping[str, object], name: str) -> bytes:
    """Build, minor, major: the order of the report."""
    nested = fields.get(name)
    parts = fields if nested is None else _object(nested, f"snp evidence: {name}")
    prefix = f"{name}_" if nested is None else ""
    return b"".join(_integer(parts.get(prefix + part), 1, f"{name}.{part}") for part in ("build", "minor", "major"))


def _certificates(value: object) -> tuple[CertEntry, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > _MAX_CERTIFICATES:
        raise EvidenceMalformed(f"snp evidence: cert_chain: want an array of at most {_MAX_CERTIFICATES} certificates")
    found = []
    for item in value:
        entry = _object(item, "snp evidence: cert_chain entry")
        kind = entry.get("cert_type")
        data = _array(entry.get("data"), None, "cert_chain data")
        if isinstance(kind, str) and kind in _GUIDS:
            found.append(CertEntry(_GUIDS[kind], data))
    return tuple(found)


def encode_snp_json(report: SnpReport, certificates: Iterable[CertEntry] = ()) -> dict[str, object]:
    """The current spelling, ready for ``json.dumps``, with ``report`` beside it.

    Table entries the protocol has no word for are left out.
    """
    raw = report.raw
    turin = report.has_short_chip_id if report.cpuid_fam_id is None else report.cpuid_fam_id == _TURIN_FAMILY
    fields: dict[str, object] = {}
    for name, (offset, size) in _INTEGERS.items():
        fields[name] = int.from_bytes(raw[offset : offset + size], "little")
    fields["key_info"] = struct.unpack_from("<I", raw, _KEY_INFO)[0]
    for name, (offset, size) in _ARRAYS.items():
        fields[name] = list(raw[offset : offset + size])
    for name, offset in _TCBS.items():
        fields[name] = _spell_tcb(raw[offset : offset + 8], turin)
    for name, offset in _VERSIONS.items():
        fields[name] = {"major": raw[offset + 2], "minor": raw[offset + 1], "build": raw[offset]}
    for name in ("cpuid_fam_id", "cpuid_mod_id", "cpuid_step", "launch_mit_vector", "current_mit_vector"):
        fields[name] = getattr(report, name)
    fields["signature"] = {name: list(raw[offset : offset + size]) for name, (offset, size) in _SIGNATURE.items()}
    chain = [{"cert_type": entry.name, "data": list(entry.data)} for entry in certificates if entry.name]
    return {
        "attestation_report": fields,
        "cert_chain": chain or None,
        "report": base64.b64encode(raw).decode("ascii"),
    }


def _spell_tcb(raw: bytes, turin: bool) -> dict[str, int | None]:
    where = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3} if turin else {"bootloader": 0, "tee": 1, "snp": 6}
    parts: dict[str, int | None] = {"fmc": None}
    parts |= {part: raw[index] for part, index in where.items()}
    parts["microcode"] = raw[7]
    return parts

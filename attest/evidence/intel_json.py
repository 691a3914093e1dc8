"""TCB info and QE identity: Intel's signed JSON, parsed and unverified, the signed bytes kept as they were served.

    {"tcbInfo": {…}, "signature": "<128 hex digits: r || s>"}            {"enclaveIdentity": {…}, "signature": "…"}

The signature covers the exact text of the inner object, spaces included, so its place is found in the text by a JSON
scanner and it is never written anew. Unknown members are tolerated: Intel adds some, and all are signed. Source: Intel,
*SGX and TDX Provisioning Certification Service* API v4, sections "Get TCB Info" and "Get Enclave Identity".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from policy.strictjson import strict_json
from policy.tdx import TcbStatus

MAX_JSON = 1 << 20
SGX, TDX = "SGX", "TDX"
QE, TD_QE = "QE", "TD_QE"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_SPACE = " \t\n\r"
_SPACE_BYTES = _SPACE.encode("ascii")
_SIGNATURE_SIZE = len(',"signature":""}') + 128
_STATUSES = {status.value: status for status in TcbStatus}


class TcbLevel(NamedTuple):
    """One level of a platform: sixteen SGX SVNs, PCESVN, and for TDX sixteen TDX SVNs (else empty)."""

    sgx: tuple[int, ...]
    pcesvn: int
    tdx: tuple[int, ...]
    date: datetime
    status: TcbStatus
    advisories: tuple[str, ...]


class IsvLevel(NamedTuple):
    """One level of an enclave or TDX module: reached from ``isvsvn`` on."""

    isvsvn: int
    date: datetime
    status: TcbStatus
    advisories: tuple[str, ...]


class TdxModule(NamedTuple):
    """What a TDX module must be; ``id`` is empty for the one entry ``tdxModule``, whose levels are the platform's.

    ``mrsigner`` has 48 bytes; ``attributes`` and ``mask`` 8, in memory order.
    """

    id: str
    mrsigner: bytes
    attributes: bytes
    mask: bytes
    levels: tuple[IsvLevel, ...]


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """``id`` is ``SGX`` or ``TDX``; levels stand best first, sorted here. Dates are aware UTC."""

    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    sha256: bytes
    id: str
    version: int
    issued: datetime
    next_update: datetime
    number: int
    fmspc: bytes
    pceid: bytes
    module: TdxModule | None
    modules: tuple[TdxModule, ...]
    levels: tuple[TcbLevel, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """``id`` is ``QE`` or ``TD_QE``. Masks and values: ``miscselect`` integers, ``attributes`` 16 bytes."""

    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    sha256: bytes
    id: str
    version: int
    issued: datetime
    next_update: datetime
    number: int
    miscselect: int
    miscselect_mask: int
    attributes: bytes
    attributes_mask: bytes
    mrsigner: bytes
    isvprodid: int
    levels: tuple[IsvLevel, ...]


def parse_tcb_info(data: bytes) -> TcbInfo:
    """A whole answer, ``{"tcbInfo": …, "signature": …}``. Raises :class:`EvidenceMalformed`."""
    return _tcb_info(*_split(data, "tcbInfo"))


def parse_qe_identity(data: bytes) -> QeIdentity:
    """A whole answer, ``{"enclaveIdentity": …, "signature": …}``. Raises :class:`EvidenceMalformed`."""
    return _qe_identity(*_split(data, "enclaveIdentity"))


def tcb_info_of(signed: bytes, signature: bytes) -> TcbInfo:
    """From the signed text and its 64-byte signature, where a bundle carries them apart."""
    return _tcb_info(signed, signature, strict_json(signed, "TCB info", max_bytes=MAX_JSON, error=EvidenceMalformed))


def _tcb_info(signed: bytes, signature: bytes, value: object) -> TcbInfo:
    """``value`` is what ``signed`` says."""
    what = "TCB info"
    members = _object(value, what)
    reader = _Members(members, what)
    version = reader.integer("version", 100)
    if version not in (2, 3):
        raise EvidenceUnsupported(f"{what}: version {version}, want 2 or 3")
    kind = SGX if version == 2 else reader.text("id")
    if kind not in (SGX, TDX):
        raise EvidenceUnsupported(f"{what}: id {kind[:40]!r}, want SGX or TDX")
    levels = [_tcb_level(entry, kind, version) for entry in reader.objects("tcbLevels")]
    return TcbInfo(
        signed=signed,
        signature=_signature(signature, what),
        sha256=hashlib.sha256(signed + signature).digest(),
        id=kind,
        version=version,
        issued=reader.date("issueDate"),
        next_update=reader.date("nextUpdate"),
        number=reader.integer("tcbEvaluationDataNumber", 2**32),
        fmspc=reader.hex("fmspc", 6),
        pceid=reader.hex("pceId", 2),
        module=_module(reader.object("tdxModule"), "") if kind == TDX else None,
        modules=tuple(
            _module(entry, _Members(entry, what).text("id"))
            for entry in (reader.objects("tdxModuleIdentities", absent_ok=True) if kind == TDX else ())
        ),
        levels=tuple(sorted(levels, key=lambda level: (level.sgx, level.pcesvn, level.tdx), reverse=True)),
    )


def qe_identity_of(signed: bytes, signature: bytes) -> QeIdentity:
    """From the signed text and its 64-byte signature."""
    value = strict_json(signed, "QE identity", max_bytes=MAX_JSON, error=EvidenceMalformed)
    return _qe_identity(signed, signature, value)


def _qe_identity(signed: bytes, signature: bytes, value: object) -> QeIdentity:
    what = "QE identity"
    reader = _Members(_object(value, what), what)
    version = reader.integer("version", 100)
    if version != 2:
        raise EvidenceUnsupported(f"{what}: version {version}, want 2")
    kind = reader.text("id")
    if kind not in (QE, TD_QE):
        raise EvidenceUnsupported(f"{what}: id {kind[:40]!r}, want QE or TD_QE")
    return QeIdentity(
        signed=signed,
        signature=_signature(signature, what),
        sha256=hashlib.sha256(signed + signature).digest(),
        id=kind,
        version=version,
        issued=reader.date("issueDate"),
        next_update=reader.date("nextUpdate"),
        number=reader.integer("tcbEvaluationDataNumber", 2**32),
        miscselect=int.from_bytes(reader.hex("miscselect", 4), "little"),
        miscselect_mask=int.from_bytes(reader.hex("miscselectMask", 4), "little"),
        attributes=reader.hex("attributes", 16),
        attributes_mask=reader.hex("attributesMask", 16),
        mrsigner=reader.hex("mrsigner", 32),
        isvprodid=reader.integer("isvprodid", 65536),
        levels=_isv_levels(reader),
    )


def _tcb_level(entry: Mapping[str, Any], kind: str, version: int) -> TcbLevel:
    level = _Members(entry, "TCB level")
    tcb = _Members(level.object("tcb"), "TCB level: tcb")
    if version == 2:
        sgx = tuple(tcb.integer(f"sgxtcbcomp{number:02}svn", 256) for number in range(1, 17))
    else:
        sgx = _components(tcb, "sgxtcbcomponents")
    return TcbLevel(
        sgx,
        tcb.integer("pcesvn", 65536),
        _components(tcb, "tdxtcbcomponents") if kind == TDX else (),
        level.date("tcbDate"),
        level.status(),
        level.advisories(),
    )


def _components(tcb: _Members, name: str) -> tuple[int, ...]:
    """All at once, because a TCB info holds hundreds."""
    found: list[Any] = [entry.get("svn") for entry in tcb.objects(name)]
    if len(found) != 16:
        raise EvidenceMalformed(f"TCB level: {name}: {len(found)} components, want 16")
    if {*map(type, found)} != {int} or min(found) < 0 or max(found) > 255:
        raise EvidenceMalformed(f"TCB level: {name}: svn: got {str(found)[:100]}, want 0..255 each")
    return tuple(found)


def _module(entry: Mapping[str, Any], name: str) -> TdxModule:
    reader = _Members(entry, "TDX module")
    return TdxModule(
        name.upper(),
        reader.hex("mrsigner", 48),
        reader.hex("attributes", 8),
        reader.hex("attributesMask", 8),
        _isv_levels(reader) if name else (),
    )


def _isv_levels(reader: _Members) -> tuple[IsvLevel, ...]:
    levels = []
    for entry in reader.objects("tcbLevels"):
        level = _Members(entry, "TCB level")
        isvsvn = _Members(level.object("tcb"), "TCB level: tcb").integer("isvsvn", 65536)
        levels.append(IsvLevel(isvsvn, level.date("tcbDate"), level.status(), level.advisories()))
    return tuple(sorted(levels, key=lambda level: level.isvsvn, reverse=True))


class _Members:
    """Typed access to one JSON object; what is missing or of another type is EvidenceMalformed."""

    __slots__ = ("_members", "_what")

    def __init__(self, members: Mapping[str, Any], what: str) -> None:
        self._members = members
        self._what = what

    def _get(self, name: str, kind: type, want: str) -> Any:
        value = self._members.get(name)
        if type(value) is not kind:
            raise EvidenceMalformed(f"{self._what}: {name}: got {str(value)[:40]!r}, want {want}")
        return value

    def text(self, name: str) -> str:
        return str(self._get(name, str, "a string"))

    def integer(self, name: str, below: int) -> int:
        value = int(self._get(name, int, "an integer"))
        if not 0 <= value < below:
            raise EvidenceMalformed(f"{self._what}: {name}: got {value}, want 0..{below - 1}")
        return value

    def hex(self, name: str, length: int) -> bytes:
        text = self.text(name)
        try:
            value = bytes.fromhex(text)
        except ValueError:
            value = b""
        if len(value) != length or len(text) != 2 * length:  # spaces are passed over by fromhex
            raise EvidenceMalformed(f"{self._what}: {name}: got {text[:100]!r}, want {2 * length} hex digits")
        return value

    def date(self, name: str) -> datetime:
        text = self.text(name)
        try:
            if not _DATE.fullmatch(text):
                raise ValueError
            return datetime.fromisoformat(text)
        except ValueError:
            raise EvidenceMalformed(f"{self._what}: {name}: got {text[:40]!r}, want YYYY-MM-DDThh:mm:ssZ") from None

    def object(self, name: str) -> Mapping[str, Any]:
        return _object(self._members.get(name), f"{self._what}: {name}")

    def objects(self, name: str, *, absent_ok: bool = False) -> list[Mapping[str, Any]]:
        if absent_ok and name not in self._members:
            return []
        items = self._get(name, list, "a list")
        if len(items) > 1000:
            raise EvidenceMalformed(f"{self._what}: {name}: {len(items)} entries, want at most 1000")
        if not {*map(type, items)} <= {dict}:
            raise EvidenceMalformed(f"{self._what}: {name}: want JSON objects only")
        return list(items)

    def status(self) -> TcbStatus:
        text = self.text("tcbStatus")
        if text not in _STATUSES:
            raise EvidenceMalformed(f"{self._what}: tcbStatus: {text[:60]!r} is unknown")
        return _STATUSES[text]

    def advisories(self) -> tuple[str, ...]:
        if "advisoryIDs" not in self._members:
            return ()
        items = self._get("advisoryIDs", list, "a list")
        if len(items) > 1000 or not all(isinstance(item, str) and 0 < len(item) <= 64 for item in items):
            raise EvidenceMalformed(f"{self._what}: advisoryIDs: want a list of short strings")
        return tuple(items)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise EvidenceMalformed(f"{what}: want a JSON object")
    return value


def _signature(signature: bytes, what: str) -> bytes:
    if len(signature) != 64:
        raise EvidenceMalformed(f"{what}: signature of {len(signature)} bytes, want 64")
    return signature


def _split(data: bytes, member: str) -> tuple[bytes, bytes, object]:
    """The text of ``member`` as it stands in ``data``, the signature, and what the text says: the whole is read
    strictly first, and once.
    """
    whole = _object(strict_json(data, member, max_bytes=MAX_JSON, error=EvidenceMalformed), member)
    if set(whole) != {member, "signature"}:
        raise EvidenceMalformed(f"{member}: members {', '.join(sorted(whole))[:80]!r}, want {member} and signature")
    signature = _Members(whole, member).hex("signature", 64)
    return _text_of(data, member), signature, whole[member]


def _text_of(data: bytes, member: str) -> bytes:
    """As Intel writes it, ``{"tcbInfo":`` stands before the text and ``,"signature":"<128 digits>"}`` after it: where
    valid JSON has these two members alone, such an end is the second. In any other shape the text is looked for.
    """
    before, after = f'{{"{member}":'.encode(), len(data) - _SIGNATURE_SIZE
    if data.startswith(before) and data.startswith(b',"signature":"', after) and data[len(before)] not in _SPACE_BYTES:
        return data[len(before) : after].rstrip(_SPACE_BYTES)
    text = data.decode("utf-8")
    start, end = _place(text, member)
    return text[start:end].encode("utf-8")


def _place(text: str, member: str) -> tuple[int, int]:
    """Where the value of ``member`` begins and ends in the text of an object that is known to be valid JSON."""
    decoder = json.JSONDecoder()
    at = _skip(text, text.index("{") + 1)
    while True:
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at)  # the colon
        at = _skip(text, at + 1)
        start = at
        _, at = decoder.raw_decode(text, at)
        if name == member:
            return start, at
        at = _skip(text, _skip(text, at) + 1)  # the comma


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at

"""SNP evidence in JSON of other makers: the one report in it, wherever it stands, and the certificates beside it.

Clouds, agents and proxies each have a JSON of their own around the same report: ``{"snp_report", "vlek_cert"}``,
``{"evidence", "endorsements", "uvm_endorsements"}`` (Microsoft's containers), ``{"format", "body"}`` with a compressed
report, ``{"outblob", "auxblob"}`` (configfs-tsm), lists of blobs. Members' names are not looked at, but of reports that
are spelled field by field as KBS evidence or as go-sev-guest's message. Looked for are strings in hexadecimal or
base64, arrays of bytes, PEM, and JSON inside a string. Two different reports are refused, because nobody could say
which one was meant. What JSON says beside the report is neither read nor believed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from attest.evidence.cert_table import NAMES, looks_like_cert_table, parse_cert_table
from attest.evidence.der import split_sequences
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.found_bytes import OWNER, find_report
from attest.evidence.found_bytes import find_endorsements as endorsements_around
from attest.evidence.hcl import MAGIC
from attest.evidence.pem import CERTIFICATE, CRL, looks_like_pem, parse_pem
from attest.evidence.snp_proto import looks_like_snp_proto, report_of_members
from attest.evidence.snp_report import REPORT_SIZE
from policy.spelled import spelled_bytes, unzipped
from policy.strictjson import strict_json

_MAX_INSIDE = 1 << 20
_MAX_LAYERS = 4
_MAX_UNZIPPED = 64 << 10
_MAX_ZIPPED = 4
"""How many compressed strings are looked into: what they hold may be a thousand times their size."""
_SHORTEST = 256
"""Neither a report nor a certificate of AMD's is shorter, however it is spelled."""
_ALGORITHM = 0x34
_MAX_VERSION = 0xFF
_SEQUENCE_LONG = b"\x30\x82"


@dataclass(slots=True)
class Found:
    """What was found: bytes of evidence, each once, and DER of AMD's certificates and lists, in the order met."""

    evidence: dict[bytes, None] = field(default_factory=dict)
    endorsements: dict[bytes, None] = field(default_factory=dict)
    zipped: int = 0

    def add_evidence(self, data: bytes) -> None:
        """Two are kept at most: one too many. What holds another (a blob its report) stands for both."""
        if any(data in known for known in self.evidence):
            return
        for known in [known for known in self.evidence if known in data]:
            del self.evidence[known]
        if len(self.evidence) < 2:
            self.evidence[data] = None


def find_evidence(value: object) -> tuple[bytes, tuple[bytes, ...]]:
    """The evidence (report, extended report, HCL blob, KBS JSON; unparsed) in parsed JSON, and DER of what came along.

    Raises :class:`EvidenceMalformed` where there is none, or more than one.
    """
    found = Found()
    _look(value, found, _MAX_LAYERS)
    if len(found.evidence) != 1:
        members = ", ".join(sorted(value)) if isinstance(value, dict) else type(value).__name__
        raise EvidenceMalformed(
            f"evidence: JSON with members {members[:80]!r} is of no known kind and holds "
            f"{'more than one SNP report' if found.evidence else 'no SNP report'}, want one"
        )
    return next(iter(found.evidence)), tuple(found.endorsements)


def find_endorsements(value: object) -> tuple[bytes, ...]:
    """DER of AMD's certificates and lists in parsed JSON."""
    found = Found()
    _look(value, found, _MAX_LAYERS)
    return tuple(found.endorsements)


def _look(value: object, found: Found, layers: int) -> None:
    """``layers`` is how often something may still be unpacked from a string; JSON itself nests only so deep."""
    if isinstance(value, dict):
        if isinstance(value.get("attestation_report"), dict) or "tpm_quote" in value:
            found.add_evidence(json.dumps(value).encode())  # KBS evidence, which has its own reader
            return
        report = report_of_members(value)
        if report is not None:
            found.add_evidence(report)
            return
        for member in value.values():
            _look(member, found, layers)
    elif isinstance(value, list):
        data = _octets(value)
        if data is not None:
            _look_at_bytes(data, found, layers)
        else:
            for member in value:
                _look(member, found, layers)
    elif isinstance(value, str) and len(value) >= _SHORTEST:
        _look_at_text(value, found, layers)


def _octets(value: list[object]) -> bytes | None:
    if len(value) < _SHORTEST or not {int}.issuperset(map(type, value)):
        return None
    try:
        return bytes(value)  # type: ignore[arg-type]  # integers, as just seen
    except ValueError:
        return None


def _look_at_text(text: str, found: Found, layers: int) -> None:
    data = text.encode("utf-8", "replace").strip()
    if data[:1] in (b"{", b"[") or looks_like_pem(data):
        _look_at_bytes(data, found, layers)
        return
    spelled = spelled_bytes(data)
    if spelled is not None:
        _look_at_bytes(spelled, found, layers)


def _look_at_bytes(packed: bytes, found: Found, layers: int) -> None:
    data = packed
    if found.zipped < _MAX_ZIPPED:
        data = unzipped(packed, _MAX_UNZIPPED)
        found.zipped += data is not packed
    if _is_evidence(data):
        found.add_evidence(data)
    elif data[:1] in (b"{", b"["):
        if layers:
            _look(_inner_json(data), found, layers - 1)
    elif (report := find_report(data)) is not None:
        found.add_evidence(report)
        found.endorsements.update(dict.fromkeys(endorsements_around(data)))
    else:
        found.endorsements.update((der, None) for der in _endorsements(data) if OWNER in der)


def _inner_json(data: bytes) -> object:
    try:
        return strict_json(data, "evidence", max_bytes=_MAX_INSIDE, error=EvidenceMalformed)
    except EvidenceMalformed:
        return None  # text that only begins like JSON


def _is_evidence(data: bytes) -> bool:
    """An HCL blob, a message, or a report as far as can be told without parsing: then the parser names every fault."""
    if data.startswith(MAGIC) or looks_like_snp_proto(data):
        return True
    if len(data) < REPORT_SIZE or not 0 < struct.unpack_from("<I", data)[0] <= _MAX_VERSION:
        return False
    rest = data[REPORT_SIZE:]
    return struct.unpack_from("<I", data, _ALGORITHM)[0] == 1 and (not any(rest) or looks_like_cert_table(rest))


def _endorsements(data: bytes) -> Sequence[bytes]:
    """DER values. Damaged PEM is an error; other bytes that are no DER may be anything, and are passed over."""
    if looks_like_pem(data):
        return [block.data for block in parse_pem(data) if block.label in (CERTIFICATE, CRL)]
    try:
        if data.startswith(_SEQUENCE_LONG):
            return split_sequences(data, "certificates")
        if looks_like_cert_table(data):
            return [der for entry in parse_cert_table(data) if entry.guid in NAMES for der in entry.ders]
    except EvidenceMalformed:
        pass
    return []

"""How a proof file is laid out, and reading it back many times a second.

A file that is laid out exactly as we lay it out is taken apart line by line. Nothing of it can be read in two ways;
every other file goes to the strict reader of JSON.
"""

from __future__ import annotations

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import orjson

from attest.audit.errors import NoteMalformed
from policy.strictjson import strict_json

SCHEMA = "attest.audit.proof/1"
MAX_FILE = 64 << 20
_SHELF = 32 << 20
_ENTRY, _DECISION = ("record", "proof"), b' "decision": '
_MEMBERS = {"schema", *_ENTRY, "blobs"}
_HEAD, _TAIL = [b"{\n", f' "schema": "{SCHEMA}",\n'.encode()], [b" }\n", b"}\n"]


class Form(NamedTuple):
    """Record, proof, and by hexadecimal digest what should be base64 (ASCII bytes); of a decision that the record rests
    on record and proof.
    """

    record: str
    proof: str
    blobs: dict[str, Any]
    decision: tuple[str, str] | None = None


class Blob(NamedTuple):
    """An attached file: base64 as it stands in the proof file, its SHA-256 (32 bytes), the bytes."""

    text: bytes
    digest: bytes
    data: bytes


class Shelf:
    """Attached files that were met before. Most proofs rest on the same certificates, lists and policies.

    Bounded by the size of the texts; what was not met for longest goes first. Not for several threads at once.
    """

    __slots__ = ("_blobs", "_free")

    def __init__(self) -> None:
        self._blobs: OrderedDict[str, Blob] = OrderedDict()
        self._free = _SHELF

    def blob(self, name: str, text: Any) -> Blob:
        """The blob that ``text`` encodes and ``name`` names, or :class:`NoteMalformed`."""
        known = self._blobs.get(name)
        if known is not None and known.text == text:
            self._blobs.move_to_end(name)
            return known
        found = read_blob(name, text)
        self._free -= len(found.text) - (0 if known is None else len(known.text))
        self._blobs[name] = found
        while self._free < 0:
            _, gone = self._blobs.popitem(last=False)
            self._free += len(gone.text)
        return found


def read_blob(name: str, text: Any) -> Blob:
    """The blob that ``text`` encodes and ``name`` names, or :class:`NoteMalformed`."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (TypeError, ValueError):
        raise NoteMalformed(f"proof file: blob {name[:64]!r} is not base64 under a digest") from None
    digest = hashlib.sha256(data)
    if digest.hexdigest() != name:
        raise NoteMalformed(f"proof file: blob {name[:64]!r} has another digest")
    return Blob(text, digest.digest(), data)


def write_form(record: str, proof: str, blobs: Mapping[str, str], decision: tuple[str, str] | None = None) -> bytes:
    """The file's bytes. ``blobs`` are base64 by hexadecimal digest, ``decision`` is a second record and its proof."""
    lines = ",\n".join([f'  "{name}": "{text}"' for name, text in blobs.items()])
    between = f"{{\n{lines}\n }}" if lines else "{}"
    rests = b"" if decision is None else _decision_line(decision)
    return b'{\n "schema": "%b",\n "record": %b,\n "proof": %b,\n%b "blobs": %b\n}\n' % (
        SCHEMA.encode(), orjson.dumps(record), orjson.dumps(proof), rests, between.encode(),
    )  # fmt: skip


def read_form(data: bytes) -> Form:
    """Record, proof and blobs of a file in whatever layout, or :class:`NoteMalformed`. Nothing is decoded yet."""
    found = None if len(data) > MAX_FILE else _as_written(data)
    return _as_json(data) if found is None else found


def _as_json(data: bytes) -> Form:
    document = strict_json(data, "proof file", max_bytes=MAX_FILE, error=NoteMalformed)
    if not isinstance(document, dict) or set(document) - {"decision"} != _MEMBERS or document["schema"] != SCHEMA:
        raise NoteMalformed(f"proof file: want the members of {SCHEMA}")
    blobs = document["blobs"]
    if not isinstance(blobs, dict):
        raise NoteMalformed("proof file: blobs: want an object")
    decision = _second(document["decision"]) if "decision" in document else None
    return Form(*_entry(document), {name: _ascii(text) for name, text in blobs.items()}, decision)


def _second(found: object) -> tuple[str, str]:
    if not isinstance(found, dict) or set(found) != set(_ENTRY):
        raise NoteMalformed("proof file: decision: want record and proof")
    return _entry(found)


def _entry(document: Mapping[str, Any]) -> tuple[str, str]:
    record, proof = (document[name] for name in _ENTRY)
    if not isinstance(record, str) or not isinstance(proof, str):
        raise NoteMalformed("proof file: record and proof must be text")
    return record, proof


def _ascii(text: object) -> object:
    """Text as bytes; what is no ASCII is no base64 either."""
    return text.encode("ascii", "replace") if isinstance(text, str) else text


def _as_written(data: bytes) -> Form | None:
    """What :func:`write_form` was given where it wrote ``data``; ``None`` otherwise, with no reason given.

    Line by line: no string of JSON holds a line break, so lines as they are written cannot be parts of anything else.
    """
    lines = BytesIO(data).readlines()  # sooner than split()
    decision = None
    if lines[4:5] and lines[4].startswith(_DECISION):
        decision = _pair(lines.pop(4))
        if decision is None:
            return None
    if lines[:2] != _HEAD or lines[4:5] != [b' "blobs": {\n'] or lines[-2:] != _TAIL or len(lines) < 8:
        return None
    record, proof = _text(lines[2], b' "record": '), _text(lines[3], b' "proof": ')
    blobs = {}
    lines[-3] = lines[-3][:-1] + b",\n"  # the last one has no comma
    for line in lines[5:-2]:
        text = line[71:-3]
        if (line[:3], line[67:71], line[-3:]) != (b'  "', b'": "', b'",\n') or b'"' in text or b"\\" in line:
            return None
        blobs[line[3:67].decode("ascii", "replace")] = text
    if record is None or proof is None or len(blobs) != len(lines) - 7:
        return None
    return Form(record, proof, blobs, decision)


def _pair(line: bytes) -> tuple[str, str] | None:
    """Record and proof of a decision's line, where writing them again gives the same line."""
    try:
        found = orjson.loads(line[len(_DECISION) : -2])
        record, proof = (found[name] for name in _ENTRY)
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(record, str) or not isinstance(proof, str) or _decision_line((record, proof)) != line:
        return None
    return record, proof


def _decision_line(decision: tuple[str, str]) -> bytes:
    return b"%b%b,\n" % (_DECISION, orjson.dumps(dict(zip(_ENTRY, decision, strict=True))))


def _text(line: bytes, name: bytes) -> str | None:
    """The string of a member's line."""
    if not line.startswith(name) or not line.endswith(b",\n"):
        return None
    try:
        found = orjson.loads(line[len(name) : -2])
    except ValueError:
        return None
    return found if isinstance(found, str) else None

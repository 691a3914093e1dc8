"""How a proof file is laid out, and reading it back many times a second.

A file that is laid out exactly as we lay it out holds no member twice and nothing that two readers could read
differently: it is what its parsed content is written as. So a fast reader that would let such things pass is enough for
it, and every other file goes to the strict one.
"""

from __future__ import annotations

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from attest.audit.errors import NoteMalformed
from policy.strictjson import strict_json

SCHEMA = "attest.audit.proof/1"
MAX_FILE = 64 << 20
_SHELF = 32 << 20
_MEMBERS = {"schema", "record", "proof", "blobs"}


class Blob(NamedTuple):
    """An attached file: base64 as it stands in the proof file, its SHA-256 (32 bytes), the bytes."""

    text: str
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

    def blob(self, name: str, text: str) -> Blob:
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


def read_blob(name: str, text: object) -> Blob:
    """The blob that ``text`` encodes and ``name`` names, or :class:`NoteMalformed`."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)  # type: ignore[arg-type]  # TypeError for what is no text
    except (TypeError, ValueError):
        raise NoteMalformed(f"proof file: blob {name[:64]!r} is not base64 under a digest") from None
    digest = hashlib.sha256(data)
    if digest.hexdigest() != name:
        raise NoteMalformed(f"proof file: blob {name[:64]!r} has another digest")
    return Blob(str(text), digest.digest(), data)


def write_form(record: str, proof: str, blobs: Mapping[str, str]) -> bytes:
    """The file's bytes. ``blobs`` are base64 by hexadecimal digest."""
    lines = ",\n".join([f'  "{name}": "{text}"' for name, text in blobs.items()])
    between = f"{{\n{lines}\n }}" if lines else "{}"
    return b'{\n "schema": "%b",\n "record": %b,\n "proof": %b,\n "blobs": %b\n}\n' % (
        SCHEMA.encode(), orjson.dumps(record), orjson.dumps(proof), between.encode(),
    )  # fmt: skip


def read_form(data: bytes) -> tuple[str, str, dict[str, Any]]:
    """Record, proof and blobs of a file in whatever layout, or :class:`NoteMalformed`. Nothing is decoded yet."""
    document = _as_written(data)
    if document is None:
        document = strict_json(data, "proof file", max_bytes=MAX_FILE, error=NoteMalformed)
    if not isinstance(document, dict) or set(document) != _MEMBERS or document["schema"] != SCHEMA:
        raise NoteMalformed(f"proof file: want the members of {SCHEMA}")
    record, proof, blobs = document["record"], document["proof"], document["blobs"]
    if not isinstance(record, str) or not isinstance(proof, str):
        raise NoteMalformed("proof file: record and proof must be text")
    if not isinstance(blobs, dict):
        raise NoteMalformed("proof file: blobs: want an object")
    return record, proof, blobs


def _as_written(data: bytes) -> Any:
    """The document where ``data`` is laid out as :func:`write_form` does it, ``None`` otherwise."""
    if len(data) > MAX_FILE:
        return None
    try:
        document = orjson.loads(data)
        same = write_form(document["record"], document["proof"], document["blobs"]) == data
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return document if same else None

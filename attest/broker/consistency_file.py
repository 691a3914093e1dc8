"""A consistency file: that a log, as it is now, extends what somebody noted of it before.

JSON, schema ``attest.audit.consistency/1``: ``old`` and ``new`` are signed checkpoints, ``path`` the RFC 6962
consistency proof (base64). Checked with the log's public key and nothing else.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from attest.audit.checkpoint import Checkpoint, parse_checkpoint
from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.merkle import verify_consistency
from attest.audit.note import Note, Verifier, verify_note
from attest.store import tree
from attest.store.engine import Database
from policy.strictjson import strict_json

SCHEMA = "attest.audit.consistency/1"
_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Grown:
    """Two checkpoints of one log, the second of which extends the first."""

    old: Checkpoint
    new: Checkpoint


def make_consistency_file(database: Database, old: bytes, new: Note) -> bytes:
    """The file that proves ``new`` to extend the checkpoint ``old``, as its reader noted it.

    Raises NoteMalformed, ProofInvalid where ``old`` is larger.
    """
    before, _ = parse_checkpoint(old)
    after, _ = parse_checkpoint(new.encode())
    if not 0 < before.size <= after.size:
        raise ProofInvalid(
            f"checkpoint: of {before.size} records, this log has {after.size}: a fork, or a restored backup"
        )
    with database.read() as tx:
        path = tree.consistency(tx, before.size, after.size)
    document = {
        "schema": SCHEMA,
        "old": old.decode("utf-8"),
        "new": new.encode().decode("utf-8"),
        "path": [base64.b64encode(item).decode("ascii") for item in path],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def is_consistency_file(data: bytes) -> bool:
    """Whether the file says of itself that it is one."""
    return SCHEMA.encode() in data[:200]


def check_consistency_file(data: bytes, log: Verifier) -> Grown:
    """Raises NoteMalformed, ProofInvalid: not signed by the log, or a fork."""
    document: Any = strict_json(data, "consistency file", max_bytes=_MAX, error=NoteMalformed)
    if not isinstance(document, dict) or set(document) != {"schema", "old", "new", "path"}:
        raise NoteMalformed(f"consistency file: want the members of {SCHEMA}")
    old, new = (_signed(document[name], log, name) for name in ("old", "new"))
    verify_consistency(old.size, new.size, _path(document["path"]), old.root, new.root)
    return Grown(old, new)


def _signed(text: object, log: Verifier, what: str) -> Checkpoint:
    if not isinstance(text, str):
        raise NoteMalformed(f"consistency file: {what}: want text")
    point, note = parse_checkpoint(text.encode("utf-8", "replace"))
    if point.origin != log.name or not verify_note(note, [log]):
        raise ProofInvalid(f"consistency file: {what}: of the log {point.origin[:80]!r}, not signed by {log.name!r}")
    return point


def _path(value: object) -> list[bytes]:
    if not isinstance(value, list):
        raise NoteMalformed("consistency file: path: want a list")
    try:
        return [base64.b64decode(item, validate=True) for item in value]
    except (TypeError, ValueError):
        raise NoteMalformed("consistency file: path: want base64") from None

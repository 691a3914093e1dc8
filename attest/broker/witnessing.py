"""Asking witnesses to cosign the audit log's checkpoints (C2SP tlog-witness, the log's side).

A witness that is down or disagrees is named and does not stop the log; how many cosignatures a proof needs is decided
by who checks it. What a witness answers is believed only where its signature verifies under the key that is known.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from attest.audit.checkpoint import checkpoint_of, parse_size
from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.note import COSIGNATURE, MAX_NOTE, Note, Verifier, parse_signatures, verify_note
from attest.audit.witness import AddCheckpoint
from attest.store import checkpoints, tree
from attest.store.engine import Database

SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Witness:
    """Where a witness is asked, and its key."""

    url: str
    key: Verifier


@dataclass(frozen=True, slots=True)
class Cosigned:
    """The note with the cosignatures that came, and why others did not (by the witness's name)."""

    note: Note
    missing: dict[str, str]


def witnesses_of(entries: Sequence[tuple[str, str]]) -> tuple[Witness, ...]:
    """By (URL, public key text) of the settings. Raises NoteMalformed."""
    found = tuple(Witness(url, Verifier.parse(key)) for url, key in entries)
    for witness in found:
        if witness.key.kind != COSIGNATURE:
            raise NoteMalformed(f"witness {witness.key.name}: its key signs logs, want one that cosigns them")
    return found


def cosign_checkpoint(database: Database, note: Note, witnesses: tuple[Witness, ...]) -> Cosigned:
    """Ask each witness that has not cosigned ``note`` yet; keep what came with the checkpoint."""
    missing: dict[str, str] = {}
    before = note
    for witness in witnesses:
        if verify_note(note, [witness.key]):
            continue
        try:
            note = _ask(database, note, witness)
        except (OSError, http.client.HTTPException) as exc:
            missing[witness.key.name] = f"cannot be reached: {exc}"
        except (NoteMalformed, ProofInvalid) as exc:
            missing[witness.key.name] = exc.message
    if note != before:
        with database.write() as tx:
            checkpoints.cosign(tx, checkpoint_of(note).size, note.encode())
    return Cosigned(note, missing)


def _ask(database: Database, note: Note, witness: Witness) -> Note:
    """The note with this witness's cosignature. The witness says itself which size it knows."""
    status, body = _submit(database, note, witness, 0)
    if status == http.client.CONFLICT:
        known, size = _known(body), checkpoint_of(note).size
        if known > size:
            raise ProofInvalid(f"knows {known} records, this log has {size}: a restored backup, or a second log")
        status, body = _submit(database, note, witness, known)
        if status == http.client.CONFLICT and _known(body) == known:
            raise ProofInvalid(f"knows another log of {known} records: the history differs")
    if status != http.client.OK:
        raise ProofInvalid(f"answered {status}: {body[:200].decode('utf-8', 'replace').strip()}")
    return _with_cosignature(note, body, witness.key)


def _submit(database: Database, note: Note, witness: Witness, old: int) -> tuple[int, bytes]:
    with database.read() as tx:
        path = tuple(tree.consistency(tx, old, checkpoint_of(note).size)) if old else ()
    return _post(witness.url, AddCheckpoint(old, path, note).encode())


def _known(body: bytes) -> int:
    return parse_size(body.decode("ascii", "replace").strip(), "answer: size")


def _with_cosignature(note: Note, body: bytes, key: Verifier) -> Note:
    try:
        lines = parse_signatures(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise NoteMalformed("answer: not UTF-8") from None
    for line in lines:
        if (line.name, line.key_id) == (key.name, key.key_id):
            signed = note._replace(signatures=(*note.signatures, line))
            verify_note(signed, [key])
            return signed
    raise ProofInvalid("answered without its own cosignature")


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
    try:
        connection.request("POST", f"{parts.path.rstrip('/')}/add-checkpoint", body)
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_NOTE)
    finally:
        connection.close()

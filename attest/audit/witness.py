"""A witness of logs (C2SP tlog-witness): it remembers the largest tree it has seen of each log and cosigns only what
extends it, so a log cannot tell two people two stories without two witnesses noticing.

The judgement is pure: :func:`judge` takes a request and what is remembered, and says what to answer and to remember.
The caller must persist what is to be remembered *before* it answers, one request at a time for each log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint, checkpoint_of, decode_hash, hash_lines, parse_size
from attest.audit.errors import NoteMalformed, ProofInvalid
from attest.audit.merkle import verify_consistency
from attest.audit.note import MAX_NOTE, Note, Verifier, cosign, parse_note, verify_note

MAX_REQUEST = MAX_NOTE + 8 * 1024
MAX_PROOF = 63
SIZE_TYPE = "text/x.tlog.size"


class WitnessKey(NamedTuple):
    """The witness's name and key."""

    name: str
    private: Ed25519PrivateKey


class AddCheckpoint(NamedTuple):
    """A request: the size the log believes the witness knows, the proof from there, the new checkpoint."""

    old: int
    path: tuple[bytes, ...]
    note: Note

    def encode(self) -> bytes:
        """The body of ``POST /add-checkpoint``."""
        return f"old {self.old}\n{hash_lines(self.path)}\n".encode() + self.note.encode()


class Answer(NamedTuple):
    """HTTP status and body; ``remember`` is what the witness knows from now on, ``None`` where nothing changes."""

    status: int
    body: str
    content_type: str = "text/plain; charset=utf-8"
    remember: Checkpoint | None = None


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Raises :class:`NoteMalformed` for anything but a complete request."""
    if len(body) > MAX_REQUEST:
        raise NoteMalformed(f"add-checkpoint: {len(body)} bytes, want at most {MAX_REQUEST}")
    head, gap, rest = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise NoteMalformed("add-checkpoint: not ASCII before the checkpoint") from None
    if not gap or not first.startswith("old ") or len(lines) > MAX_PROOF:
        raise NoteMalformed(f"add-checkpoint: want 'old N', at most {MAX_PROOF} hashes, an empty line, a checkpoint")
    path = tuple(decode_hash(line, "add-checkpoint: hash") for line in lines)
    return AddCheckpoint(parse_size(first.removeprefix("old "), "add-checkpoint: old size"), path, parse_note(rest))


def judge(
    body: bytes, logs: Mapping[str, Verifier], known: Mapping[str, Checkpoint], key: WitnessKey, time: int
) -> Answer:
    """The answer to one request at POSIX ``time``. ``logs`` and ``known`` are by origin."""
    try:
        request = parse_add_checkpoint(body)
        point = checkpoint_of(request.note)
    except NoteMalformed as exc:
        return Answer(400, f"{exc.message}\n")
    log = logs.get(point.origin)
    if log is None:
        return Answer(404, "unknown log\n")
    try:
        signed = verify_note(request.note, [log])
    except ProofInvalid:
        signed = ()
    if not signed:
        return Answer(403, "not signed by the log\n")
    if request.old > point.size:
        return Answer(400, "the old size is larger than the checkpoint\n")
    return _extends(request, point, known.get(point.origin), key, time)


def _extends(request: AddCheckpoint, point: Checkpoint, last: Checkpoint | None, key: WitnessKey, time: int) -> Answer:
    size = 0 if last is None else last.size
    if request.old != size or (last is not None and point.size == size and point.root != last.root):
        return Answer(409, f"{size}\n", SIZE_TYPE)
    if last is None or size == 0:
        if request.path:
            return Answer(422, "a proof from an empty log must be empty\n")
    else:
        try:
            verify_consistency(size, point.size, request.path, last.root, point.root)
        except ProofInvalid as exc:
            return Answer(422, f"{exc.message}\n")
    signature = cosign(point.text, key.name, key.private, time)
    return Answer(200, signature.line, remember=point)

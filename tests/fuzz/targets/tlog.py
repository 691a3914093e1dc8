"""Signed notes, checkpoints, proof files, public keys, entry bundles and the paths of tiles."""

from __future__ import annotations

import contextlib

from attest.audit.checkpoint import checkpoint_of, parse_proof
from attest.audit.errors import NoteMalformed
from attest.audit.note import Verifier, parse_note
from attest.audit.tiles import decode_entries, encode_entries, tile_at


def one(data: bytes) -> None:
    """Each reader refuses or gives back what its writer turns into the same bytes."""
    with contextlib.suppress(NoteMalformed):
        note = parse_note(data)
        assert parse_note(note.encode()) == note
        checkpoint = checkpoint_of(note)
        assert checkpoint.text == note.text
    with contextlib.suppress(NoteMalformed):
        proof = parse_proof(data)
        assert parse_proof(proof.encode()) == proof
    with contextlib.suppress(NoteMalformed):
        assert encode_entries(decode_entries(data)) == data
    with contextlib.suppress(NoteMalformed):
        level, _, path = data.decode("utf-8", "replace").partition("/")
        tile = tile_at(len(level), path)
        assert tile.path == f"tile/{tile.level}/{path}"
    with contextlib.suppress(NoteMalformed):
        key = Verifier.parse(data.decode("utf-8", "replace"))
        assert Verifier.parse(key.vkey) == key

"""A log of records that are no decisions, in memory, and bundles of their proofs written by hand."""

from __future__ import annotations

import base64
import json
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint
from attest.audit.merkle import Frontier, Nodes, complete_subtrees, inclusion_path, leaf_hash
from attest.audit.note import COSIGNATURE, Note, cosign, sign, verifier_of

LOG, WITNESS = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
NAME, SEEN = "log.example/audit", "witness.example/w1"
LOG_KEY, WITNESS_KEY = verifier_of(NAME, LOG), verifier_of(SEEN, WITNESS, COSIGNATURE)


def record(number: int) -> bytes:
    """A canonical record that is no decision."""
    body = {"actor": {}, "body": {}, "kind": "test", "schema": "cvm.audit/1", "seq": number}
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode()


@lru_cache
def log(size: int) -> tuple[Note, Nodes]:
    """The checkpoint, signed and cosigned, and the nodes of the tree."""
    nodes, frontier = {}, Frontier()
    for index in range(size):
        nodes.update({(level, at): value for level, at, value in frontier.push(leaf_hash(record(index + 1)))})
    text = Checkpoint(NAME, size, frontier.root()).text
    note = Note(text, (sign(text, NAME, LOG), cosign(text, SEEN, WITNESS, 1_800_000_000)))
    return note, lambda level, at: nodes[level, at]


def bundle(numbers: range, size: int) -> bytes:
    """The proofs of these records, each with bytes of its own that nothing asks for."""
    note, nodes = log(size)
    lines = [_line({"checkpoint": note.encode().decode(), "schema": "attest.audit.bundle/1"}), _line({"shared": {}})]
    for level, index in complete_subtrees(numbers.start - 1, numbers.stop - 1):
        first, count = index << level, 1 << level
        entries = b"".join(b'["QQ=="]\n' + record(number + 1) + b"\n" for number in range(first, first + count))
        path = [base64.b64encode(item).decode() for item in inclusion_path(first, size, nodes)[level:]]
        lines += [_line({"bytes": len(entries), "count": count, "first": first + 1, "path": path}), entries]
    return b"".join(lines)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

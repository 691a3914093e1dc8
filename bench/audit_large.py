"""Proving one record of ten million: the proof from the database, and its text with a signed checkpoint.

Runs only when it is named: filling the tree takes minutes and a gigabyte of disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint, LogProof, parse_proof
from attest.audit.merkle import leaf_hash, node_hash, verify_inclusion
from attest.audit.note import Note, sign
from attest.store import tree
from attest.store.engine import Database

RECORDS, ASKED, _HEIGHT = 10_000_000, 200, 16
_ORIGIN = "bench.example/log"
Node = tuple[int, int, bytes]


def run() -> list[dict[str, Any]]:
    """The rows of this module."""
    with tempfile.TemporaryDirectory(dir=Path(".cache")) as name:
        return [proof_row(Path(name) / "large.db", RECORDS)]


def proof_row(path: Path, size: int) -> dict[str, Any]:
    """The time for the proof of a record, its first reading among them, and the longest proof's text."""
    database, start = Database(path), time.perf_counter()
    _fill(database, size)
    filled, spent, longest = time.perf_counter() - start, [], 0
    key = Ed25519PrivateKey.generate()
    with database.read() as tx:
        root = tree.root(tx, size)
    point = Checkpoint(_ORIGIN, size, root)
    note = Note(point.text, (sign(point.text, _ORIGIN, key),))
    for number in range(0, size, max(1, size // ASKED)):
        start = time.perf_counter()
        with database.read() as tx:
            text = LogProof(number, tuple(tree.inclusion(tx, number, size)), note).encode()
        spent.append(time.perf_counter() - start)
        longest = max(longest, len(text))
        verify_inclusion(_leaf(number), number, size, parse_proof(text).path, root)
    return {
        "name": f"inclusion proof in a log of {size:,} records, ms", "ours": round(median(spent) * 1000, 3),
        "peer": 5.0, "ratio": round(0.005 / median(spent), 1), "target": "5 ms, 2 KB",
        "met": median(spent) < 0.005 and longest < 2048,
        "detail": f"{longest} bytes with the checkpoint; slowest {max(spent) * 1000:.1f} ms, "
        f"first {spent[0] * 1000:.1f}; each was verified; filled in {filled:.0f} s; {path.stat().st_size / 1e6:.0f} MB",
    }  # fmt: skip


def _leaf(number: int) -> bytes:
    return leaf_hash(number.to_bytes(8, "big"))


def _fill(database: Database, size: int) -> None:
    """A tree alone, by subtrees of 2^16 leaves: its proofs do not look at the records."""
    database.create()
    width, tops = 1 << _HEIGHT, []
    for first in range(0, size, width):
        nodes = list(_levels([_leaf(at) for at in range(first, min(size, first + width))], 0, first))
        with database.write() as tx:
            tree.add(tx, nodes)
        if first + width <= size:
            tops.append(nodes[-1][2])
    with database.write() as tx:
        tree.add(tx, [node for node in _levels(tops, _HEIGHT, 0) if node[0] > _HEIGHT])


def _levels(hashes: list[bytes], level: int, first: int) -> Iterator[Node]:
    """Every complete node over ``hashes``, which stand at ``level`` and begin with number ``first``."""
    while hashes:
        yield from ((level, first + at, value) for at, value in enumerate(hashes))
        pairs = zip(hashes[::2], hashes[1::2], strict=False)
        hashes, first, level = [node_hash(left, right) for left, right in pairs], first >> 1, level + 1

"""Proving one record of ten million: the proof from the database, and its text with a signed checkpoint.

Runs only when it is named: filling the tree takes minutes and a gigabyte of disk.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.checkpoint import Checkpoint, LogProof, parse_proof
from attest.audit.merkle import Frontier, leaf_hash, verify_inclusion
from attest.audit.note import Note, sign
from attest.store import tree
from attest.store.engine import Database
from attest.store.prepared import driver

RECORDS, ASKED, _ROWS = 10_000_000, 200, 1 << 16
_ORIGIN = "bench.example/log"


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
    """A tree alone: its proofs do not look at the records."""
    database.create()
    edge = Frontier()
    while edge.size < size:
        rows = [tree.grow(edge, _leaf(at)) for at in range(edge.size, min(size, edge.size + _ROWS))]
        with database.write() as tx:
            driver(tx).executemany("INSERT INTO leaves VALUES (?, ?)", rows)

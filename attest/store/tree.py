"""The Merkle tree over the audit records: what proofs are made from.

A leaf's row has the hashes of all complete subtrees that end with it, so the node (level, number) is in the row of leaf
(number + 1) * 2^level - 1, after the ``level`` smaller ones. A record's nodes go into one row at the end of one table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, select

from attest.audit.merkle import (
    HASH_BYTES,
    Frontier,
    Nodes,
    complete_subtrees,
    consistency_path,
    inclusion_path,
    root_of,
)
from attest.store.columns import as_bytes
from attest.store.errors import TreeIncomplete
from attest.store.prepared import driver
from attest.store.schema import leaves


def edge(tx: Connection, size: int) -> Frontier:
    """The right edge of the tree of ``size`` records."""
    return Frontier.of(size, nodes(tx, complete_subtrees(0, size)))


def grow(edge: Frontier, leaf: bytes) -> tuple[int, bytes]:
    """Append the leaf hash ``leaf``; the leaf's row."""
    number = edge.size
    return number, b"".join([node[2] for node in edge.push(leaf)])


def nodes(tx: Connection, wanted: Iterable[tuple[int, int]]) -> Nodes:
    """The wanted nodes, read in one query, as a function of (level, number). A missing one is TreeIncomplete."""
    found: dict[int, bytes] = {}
    if ends := {_end(*place) for place in wanted}:
        # As text, for these are numbers of ours, and an expression of so many terms would take ten times as long to
        # make as to run.
        query = f"SELECT number, hashes FROM leaves WHERE number IN ({', '.join(map(str, ends))})"  # noqa: S608  of numbers
        found = {number: as_bytes(hashes) for number, hashes in driver(tx).execute(query).fetchall()}

    def node(level: int, number: int) -> bytes:
        start = HASH_BYTES * level
        value = found.get(_end(level, number), b"")[start : start + HASH_BYTES]
        if len(value) != HASH_BYTES:
            raise TreeIncomplete(f"audit tree: node {number} at level {level} is missing")
        return value

    return node


def _end(level: int, number: int) -> int:
    """The leaf that a complete subtree ends with."""
    return ((number + 1) << level) - 1


def root(tx: Connection, size: int) -> bytes:
    """The root over the first ``size`` records."""
    return root_of(size, nodes(tx, complete_subtrees(0, size)))


def has_leaf(tx: Connection, index: int) -> bool:
    """Whether there is a leaf of that number (from 0)."""
    return tx.scalar(select(leaves.c.number).where(leaves.c.number == index)) is not None


def inclusion(tx: Connection, index: int, size: int) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size``."""
    return inclusion_path(index, size, nodes(tx, _asked_by(lambda ask: inclusion_path(index, size, ask))))


def consistency(tx: Connection, old: int, new: int) -> list[bytes]:
    """The proof that the tree of ``new`` extends that of ``old``."""
    return consistency_path(old, new, nodes(tx, _asked_by(lambda ask: consistency_path(old, new, ask))))


def _asked_by(build: Callable[[Nodes], object]) -> list[tuple[int, int]]:
    """Which nodes a proof is made from: it is built once from nothing, to read them all in one query."""
    asked: list[tuple[int, int]] = []

    def note(level: int, number: int) -> bytes:
        asked.append((level, number))
        return bytes(32)

    build(note)
    return asked

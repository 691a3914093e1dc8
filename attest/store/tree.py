"""The Merkle tree over the audit records, node by node: what proofs are made from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, and_, select

from attest.audit.merkle import Frontier, Nodes, complete_subtrees, consistency_path, inclusion_path, root_of
from attest.store.bulk import insert_rows
from attest.store.columns import as_bytes
from attest.store.errors import TreeIncomplete
from attest.store.prepared import driver
from attest.store.schema import tree

_TAIL = "cvm_tail"


def frontier(tx: Connection, size: int, last: bytes) -> Frontier:
    """The right edge of the tree of ``size`` records, the last of which has the SHA-256 ``last``.

    Remembered with the connection: the digest commits to every record before, so an equal one means an equal tree.
    """
    known = tx.info.get(_TAIL)
    if known is not None and known[:2] == (size, last):
        return Frontier(size, known[2])
    return Frontier.of(size, nodes(tx, complete_subtrees(0, size)))


def remember(tx: Connection, edge: Frontier, last: bytes) -> None:
    """Keep the edge for the next record of this connection."""
    tx.info[_TAIL] = (edge.size, last, edge.edge)


def add(tx: Connection, found: Sequence[tuple[int, int, bytes]]) -> None:
    """Insert nodes (level, number, hash)."""
    insert_rows(tx, tree, found)


def nodes(tx: Connection, wanted: Iterable[tuple[int, int]]) -> Nodes:
    """The wanted nodes, read in one query, as a function of (level, number). A missing one is TreeIncomplete."""
    levels: dict[int, list[int]] = {}
    for level, number in wanted:
        levels.setdefault(level, []).append(number)
    found: dict[tuple[int, int], bytes] = {}
    if levels:
        # Level by level: row values with IN make SQLite read the whole table. As text, for these are numbers of ours
        # and an expression of so many terms would take ten times as long to make as to run.
        places = [f"level = {level} AND number IN ({', '.join(map(str, some))})" for level, some in levels.items()]
        where = " OR ".join(places)
        rows = driver(tx).execute(f"SELECT level, number, hash FROM tree WHERE {where}").fetchall()  # noqa: S608  of numbers
        found = {(level, number): as_bytes(value) for level, number, value in rows}

    def node(level: int, number: int) -> bytes:
        try:
            return found[level, number]
        except KeyError:
            raise TreeIncomplete(f"audit tree: node {number} at level {level} is missing") from None

    return node


def root(tx: Connection, size: int) -> bytes:
    """The root over the first ``size`` records."""
    return root_of(size, nodes(tx, complete_subtrees(0, size)))


def has_leaf(tx: Connection, index: int) -> bool:
    """Whether there is a leaf of that number (from 0)."""
    place = and_(tree.c.level == 0, tree.c.number == index)
    return tx.scalar(select(tree.c.number).where(place)) is not None


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

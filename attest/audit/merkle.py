"""The Merkle tree of RFC 6962 (and 9162), SHA-256: roots, inclusion and consistency proofs, and their verification.

Leaf hash SHA-256(0x00 || entry), node SHA-256(0x01 || left || right), the root of no entries SHA-256(""). A tree of n
leaves is described by its *complete subtrees*: the node (level, i) covers leaves i * 2^level to (i + 1) * 2^level - 1
and never changes once all of them exist. Proofs are built from such nodes alone, so a log that stores them answers
in O(log n). Source: RFC 6962, section 2.1; verification after RFC 9162, sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from attest.audit.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PATH = 64
"""No proof of a tree that fits 64-bit sizes is longer."""

Nodes = Callable[[int, int], bytes]
"""``nodes(level, index)``: the hash of a complete subtree (32 bytes)."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf that holds ``entry``."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: the hashes of the maximal complete subtrees, largest first.

    ``size`` leaves are in the tree; there is one hash for every bit that is set in ``size``.
    """

    __slots__ = ("_edge", "size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        if size < 0 or len(edge) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {max(size, 0).bit_count()} edge hashes, got {len(edge)}")
        self.size = size
        self._edge = list(edge)

    @classmethod
    def of(cls, size: int, nodes: Nodes) -> Frontier:
        """The frontier of a stored tree."""
        return cls(size, [nodes(level, index) for level, index in complete_subtrees(0, size)])

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The hashes, largest subtree first."""
        return tuple(self._edge)

    def push(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Append the leaf hash ``leaf``; returns the nodes this completes as (level, index, hash), the leaf first."""
        index, level, node = self.size, 0, leaf
        found = [(level, index, node)]
        while index & 1:
            node = node_hash(self._edge.pop(), node)
            index, level = index >> 1, level + 1
            found.append((level, index, node))
        self._edge.append(node)
        self.size += 1
        return found

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        return _fold(self._edge) if self._edge else EMPTY_ROOT


def complete_subtrees(start: int, end: int, highest: int = 64) -> Iterator[tuple[int, int]]:
    """The largest complete subtrees (level, index), up to level ``highest``, that leaves ``start`` to ``end - 1`` fall
    into, left to right.
    """
    while start < end:
        level = min((end - start).bit_length() - 1, highest)
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level


def root_of(size: int, nodes: Nodes) -> bytes:
    """The root of the first ``size`` leaves of a stored tree."""
    return _subroot(0, size, nodes) if size else EMPTY_ROOT


def inclusion_path(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size`` leaves, the leaf's sibling first."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} of a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_subroot(split, end, nodes))
            end = split
        else:
            path.append(_subroot(start, split, nodes))
            start = split
    path.reverse()
    return path


def consistency_path(old: int, new: int, nodes: Nodes) -> list[bytes]:
    """The proof that the first ``old`` of ``new`` leaves form the older tree; empty where that needs none."""
    if not 0 <= old <= new:
        raise ValueError(f"no consistency from {old} to {new}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    start, end = 0, new
    while end != old:
        split = start + _split(end - start)
        if old <= split:
            path.append(_subroot(split, end, nodes))
            end = split
        else:
            path.append(_subroot(start, split, nodes))
            start = split
    if start:
        path.append(_subroot(start, end, nodes))
    path.reverse()
    return path


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that ``path`` claims for leaf hash ``leaf`` at ``index`` of ``size``. Raises :class:`ProofInvalid`."""
    if not 0 <= index < size:
        raise ProofInvalid(f"inclusion proof: leaf {index} of a tree of {size}")
    _check_hashes("inclusion proof", path)
    node, last, rest = leaf, size - 1, list(path)
    while last:
        if index & 1 or index < last:
            if not rest:
                raise ProofInvalid("inclusion proof: too short")
            sibling = rest.pop(0)
            node = node_hash(sibling, node) if index & 1 else node_hash(node, sibling)
        index, last = index >> 1, last >> 1
    if rest:
        raise ProofInvalid(f"inclusion proof: {len(rest)} hashes too many")
    return node


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Leaf hash ``leaf`` is entry ``index`` of the tree with ``size`` leaves and ``root``, or :class:`ProofInvalid`."""
    if root_from_inclusion(leaf, index, size, path) != root:
        raise ProofInvalid(f"inclusion proof: entry {index} is not in the tree of {size} with root {root.hex()}")


def verify_subtree(leaves: Sequence[bytes], first: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Leaf hashes ``leaves`` are the entries from ``first`` on of the tree with ``size`` leaves and ``root``.

    They must be a complete subtree (a power of two of them, ``first`` a multiple of it); ``path`` leads from its root
    to that of the tree. Raises :class:`ProofInvalid`.
    """
    count = len(leaves)
    if count.bit_count() != 1 or first % count or not 0 <= first <= size - count:
        raise ProofInvalid(f"subtree proof: {count} leaves from {first} on are no subtree of a tree of {size}")
    level = count.bit_length() - 1
    # What is left of the tree above the subtree's level is a tree itself, whose leaves are subtrees.
    if root_from_inclusion(_joined(leaves), first >> level, ((size - 1) >> level) + 1, path) != root:
        raise ProofInvalid(f"subtree proof: entries {first} to {first + count - 1} are not in the tree of {size}")


def _joined(nodes: Sequence[bytes]) -> bytes:
    """The root over a power of two of nodes."""
    while len(nodes) > 1:
        nodes = [node_hash(*pair) for pair in zip(nodes[::2], nodes[1::2], strict=True)]
    return nodes[0]


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """The tree of ``new`` leaves extends the one of ``old``, or :class:`ProofInvalid`.

    From an empty tree nothing can be proven: every tree extends it, so the caller must not ask.
    """
    if not 0 < old <= new:
        raise ProofInvalid(f"consistency proof: from {old} to {new}")
    _check_hashes("consistency proof", path)
    if old == new:
        if path or old_root != new_root:
            raise ProofInvalid(f"consistency proof: two trees of {old} leaves with different roots")
        return
    older, newer = _consistent_roots(old, new, list(path), old_root)
    if older != old_root:
        raise ProofInvalid(f"consistency proof: the older tree of {old} does not follow from it")
    if newer != new_root:
        raise ProofInvalid(f"consistency proof: the newer tree of {new} does not follow from it")


def _consistent_roots(old: int, new: int, rest: list[bytes], old_root: bytes) -> tuple[bytes, bytes]:
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    # A power of two is a node of the new tree itself, so its hash is left out of the proof.
    older = newer = rest.pop(0) if place and rest else old_root
    for sibling in rest:
        if not last:
            raise ProofInvalid("consistency proof: too long")
        if place & 1 or place == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        place, last = place >> 1, last >> 1
    if last:
        raise ProofInvalid("consistency proof: too short")
    return older, newer


def _check_hashes(what: str, path: Sequence[bytes]) -> None:
    if len(path) > MAX_PATH or any(len(item) != HASH_BYTES for item in path):
        raise ProofInvalid(f"{what}: want at most {MAX_PATH} hashes of {HASH_BYTES} bytes")


def _split(size: int) -> int:
    """The largest power of two smaller than ``size``, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _subroot(start: int, end: int, nodes: Nodes) -> bytes:
    """The hash over leaves ``start`` to ``end - 1``, a range that the tree's own splits produce."""
    return _fold([nodes(level, index) for level, index in complete_subtrees(start, end)])


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Join complete subtrees, largest first, from the right."""
    node = hashes[-1]
    for left in reversed(hashes[:-1]):
        node = node_hash(left, node)
    return node

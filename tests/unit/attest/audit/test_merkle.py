"""RFC 6962 trees: known roots, and every proof of every tree of up to 300 leaves."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.audit.errors import ProofInvalid
from attest.audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LARGEST = 300
# The entries and roots that implementations of RFC 6962 test themselves with.
ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Stored:
    """A tree whose nodes are kept, as a log keeps them."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.roots = [EMPTY_ROOT]
        frontier = Frontier()
        for leaf in leaves:
            self.nodes.update({(level, index): value for level, index, value in frontier.push(leaf)})
            self.roots.append(frontier.root())

    def __call__(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


LEAVES = [leaf_hash(index.to_bytes(4, "big")) for index in range(LARGEST)]
TREE = Stored(LEAVES)


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(by_definition(leaves[:split]), by_definition(leaves[split:]))


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_roots_are_those_every_implementation_finds(size: int) -> None:
    assert Stored([leaf_hash(entry) for entry in ENTRIES[:size]]).roots[size].hex() == ROOTS[size]


def test_the_frontier_gives_the_root_of_the_definition_at_every_size() -> None:
    for size in range(0, LARGEST + 1, 7):
        assert TREE.roots[size] == by_definition(LEAVES[:size])
        assert root_of(size, TREE) == TREE.roots[size]
        assert Frontier.of(size, TREE).root() == TREE.roots[size]


def test_every_leaf_of_every_tree_is_proven_and_no_other_leaf_is() -> None:
    for size in range(1, LARGEST + 1):
        for index in range(size):
            path = inclusion_path(index, size, TREE)
            verify_inclusion(LEAVES[index], index, size, path, TREE.roots[size])
        with pytest.raises(ProofInvalid):
            verify_inclusion(LEAVES[size % LARGEST - 1], 0, size + 1, path, TREE.roots[size])


def test_every_tree_is_proven_to_extend_every_smaller_one() -> None:
    for new in range(1, LARGEST + 1):
        for old in range(1, new + 1):
            verify_consistency(old, new, consistency_path(old, new, TREE), TREE.roots[old], TREE.roots[new])


@given(st.integers(1, LARGEST), st.data())
def test_an_inclusion_proof_with_one_thing_changed_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(index, size, TREE)
    changed = data.draw(st.sampled_from(["leaf", "index", "longer", "root", *(["path", "shorter"] if path else [])]))
    leaf, root = LEAVES[index], TREE.roots[size]
    if changed == "leaf":
        leaf = leaf_hash(b"another")
    elif changed == "index":
        others = [other for other in range(size) if other != index] or [size]
        index = data.draw(st.sampled_from(others))
    elif changed == "longer":
        path = [*path, bytes(32)]
    elif changed == "shorter":
        path = path[:-1]
    elif changed == "path":
        place = data.draw(st.integers(0, len(path) - 1))
        path[place] = bytes([path[place][0] ^ 1]) + path[place][1:]
    else:
        root = bytes(32)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaf, index, size, path, root)


@given(st.integers(2, LARGEST), st.data())
def test_a_consistency_proof_with_one_thing_changed_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    path, older, newer = consistency_path(old, new, TREE), TREE.roots[old], TREE.roots[new]
    changed = data.draw(st.sampled_from(["older", "newer", "path", "shorter", "longer", "swapped"]))
    if changed == "older":
        older = TREE.roots[old - 1]
    elif changed == "newer":
        newer = TREE.roots[new - 1]
    elif changed == "path":
        place = data.draw(st.integers(0, len(path) - 1))
        path[place] = bytes([path[place][0] ^ 1]) + path[place][1:]
    elif changed == "shorter":
        path = path[:-1]
    elif changed == "longer":
        path = [*path, bytes(32)]
    else:
        old, new = new, old
    with pytest.raises(ProofInvalid):
        verify_consistency(old, new, path, older, newer)


def test_consistency_with_an_empty_tree_is_not_a_question() -> None:
    with pytest.raises(ProofInvalid):
        verify_consistency(0, 3, [], EMPTY_ROOT, TREE.roots[3])


def test_equal_sizes_with_unequal_roots_are_a_fork() -> None:
    with pytest.raises(ProofInvalid, match="different roots"):
        verify_consistency(3, 3, [], TREE.roots[3], TREE.roots[4])


@pytest.mark.parametrize("path", [[b"short"], [bytes(32)] * 65])
def test_a_path_of_wrong_hashes_is_refused(path: list[bytes]) -> None:
    with pytest.raises(ProofInvalid, match="hashes of 32 bytes"):
        verify_inclusion(LEAVES[0], 0, 2, path, TREE.roots[2])


def test_a_frontier_of_the_wrong_shape_is_misuse() -> None:
    with pytest.raises(ValueError, match="edge hashes"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ValueError, match="leaf 3"):
        inclusion_path(3, 3, TREE)
    with pytest.raises(ValueError, match="consistency"):
        consistency_path(4, 3, TREE)

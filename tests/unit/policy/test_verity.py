"""The shape of the hash tree, held against veritysetup itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from policy.verity import BLOCK, root_hash, tree_blocks, tree_levels

VERITYSETUP = shutil.which("veritysetup", path="/usr/sbin:/sbin:/usr/bin:/usr/local/sbin")


@pytest.mark.parametrize(
    ("blocks", "levels"),
    [(2, (1,)), (128, (1,)), (129, (1, 2)), (128 * 128, (1, 128)), (128 * 128 + 1, (1, 2, 129))],
)
def test_a_block_of_the_tree_holds_128_hashes(blocks: int, levels: tuple[int, ...]) -> None:
    assert tree_levels(blocks) == levels


@pytest.mark.parametrize("blocks", [0, 1, (1 << 32) + 1])
def test_no_tree_is_over_so_few_or_so_many_blocks(blocks: int) -> None:
    with pytest.raises(ValueError, match=f"^{blocks} blocks"):
        tree_levels(blocks)


@pytest.mark.skipif(VERITYSETUP is None, reason="veritysetup is not installed")
@pytest.mark.parametrize("blocks", [2, 129])
def test_size_and_root_hash_are_those_of_veritysetup(blocks: int, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"".join(bytes([number % 251]) * BLOCK for number in range(blocks)))
    words = ["--no-superblock", "--hash", "sha256", "--salt", "-", "--data-block-size", "4096"]
    words += ["--hash-block-size", "4096", "--data-blocks", str(blocks), "--hash-offset", str(blocks * BLOCK)]
    said = subprocess.run([str(VERITYSETUP), "format", *words, image, image], capture_output=True, check=True).stdout
    data = image.read_bytes()
    assert len(data) == (blocks + tree_blocks(blocks)) * BLOCK
    found = re.search(rb"Root hash:\s+([0-9a-f]{64})", said)
    assert found is not None
    assert root_hash(data[blocks * BLOCK : (blocks + 1) * BLOCK]).encode() == found[1]

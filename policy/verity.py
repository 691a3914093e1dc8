"""The form of a root file system with a hash tree (dm-verity, version 1): SHA-256, blocks of 4096 bytes, no salt, no
superblock; the tree follows the data, its top level first.

Builder, launcher and guest agree here on where things are, so that nothing on the disk needs to say so.
Source: Linux ``Documentation/admin-guide/device-mapper/verity.rst`` and ``drivers/md/dm-verity-target.c``.
"""

from __future__ import annotations

BLOCK = 4096
FAN = BLOCK // 32
"""Hashes in one block of the tree."""
MIN_BLOCKS, MAX_BLOCKS = 2, 1 << 32


def tree_levels(blocks: int) -> tuple[int, ...]:
    """Blocks of each level of the tree over ``blocks`` blocks of data, the top first. Raises ValueError outside of
    `MIN_BLOCKS` (over a single block there is no tree) to `MAX_BLOCKS`.

    >>> tree_levels(129)
    (1, 2)
    """
    if not MIN_BLOCKS <= blocks <= MAX_BLOCKS:
        raise ValueError(f"{blocks} blocks, want {MIN_BLOCKS} to {MAX_BLOCKS}")
    levels: list[int] = []
    below = blocks
    while below > 1:
        below = -(-below // FAN)
        levels.insert(0, below)
    return tuple(levels)


def tree_blocks(blocks: int) -> int:
    """Blocks of the whole tree."""
    return sum(tree_levels(blocks))


def root_hash(top: bytes) -> str:
    """The root hash (hexadecimal) that belongs to the tree's first block (4096 bytes)."""
    if len(top) != BLOCK:
        raise ValueError(f"{len(top)} bytes, want {BLOCK}")
    from hashlib import sha256  # who only reads a VM file does without

    return sha256(top).hexdigest()

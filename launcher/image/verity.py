"""A read-only root file system with its hash tree behind it: whoever knows 32 bytes, the root hash, knows every byte.

Squashfs by ``mksquashfs``, the tree by ``veritysetup``, both from the packages the guest is made of and run through
their own loader: same packages, same contents, same bytes. Owners, times and the order of files are not the build
machine's. The tree has no header of its own: block sizes, algorithm, salt (none) and where it begins are fixed, and
the number of blocks is measured with the root hash, so that a guest believes nothing that stands on the disk.

Sources: Linux ``Documentation/admin-guide/device-mapper/verity.rst``; mksquashfs(1); veritysetup(8).
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.image.errors import ImageError
from launcher.image.sysroot import Sysroot
from policy.verity import BLOCK, MIN_BLOCKS, tree_blocks

MOUNT_POINTS: Final = ("dev", "proc", "run", "sys", "tmp")
"""Folders that the guest mounts something on; made where the contents have none."""

_HASH = re.compile(rb"^Root hash:\s+([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RootImage:
    """``blocks`` of 4096 bytes hold the file system; ``root_hash``: 64 lower-case hexadecimal digits."""

    blocks: int
    root_hash: str

    @property
    def size(self) -> int:
        """Bytes of the whole image."""
        return (self.blocks + tree_blocks(self.blocks)) * BLOCK


def write_root(image: Path, content: Path, sysroot: Sysroot, epoch: int) -> RootImage:
    """Make the image in the file ``image``, which is replaced, from ``content``: a folder, whose files all become
    root's, or a tar archive, whose owners stay. Every time becomes ``epoch`` (seconds since 1970).

    Raises ImageError.
    """
    size = _squash(image, content, sysroot, epoch)
    if size % BLOCK:
        raise ImageError(f"{image.name}: {size} bytes of squashfs, want whole blocks of {BLOCK}")
    blocks = size // BLOCK
    said = sysroot.run(
        "usr/sbin/veritysetup", "format", "--no-superblock",
        "--format", "1", "--hash", "sha256", "--salt", "-",
        "--data-block-size", str(BLOCK), "--hash-block-size", str(BLOCK),
        "--data-blocks", str(blocks), "--hash-offset", str(size),
        str(image), str(image),
    )  # fmt: skip
    found = _HASH.search(said)
    if found is None:
        raise ImageError(f"veritysetup: no root hash in what it said: {said[-200:]!r}")
    made = RootImage(blocks, found[1].decode())
    if image.stat().st_size != made.size:
        raise ImageError(f"{image.name}: {image.stat().st_size} bytes with its hash tree, want {made.size}")
    return made


def _squash(image: Path, content: Path, sysroot: Sysroot, epoch: int) -> int:
    """The file system's size in bytes."""
    options = [
        "-noappend", "-no-progress", "-quiet", "-no-xattrs", "-no-exports",
        "-comp", "zstd", "-all-time", str(epoch), "-mkfs-time", str(epoch), "-root-mode", "755",
    ]  # fmt: skip
    if content.is_dir():
        options += ["-all-root", *_missing({path.name for path in content.iterdir()})]
        sysroot.run("usr/bin/mksquashfs", str(content.absolute()), str(image.absolute()), *options)
    else:
        options += ["-default-mode", "755", "-default-uid", "0", "-default-gid", "0", *_missing(_top(content))]
        with content.open("rb") as archive:
            sysroot.run("usr/bin/mksquashfs", "-", str(image.absolute()), "-tar", *options, stdin=archive)
    size = max(image.stat().st_size, MIN_BLOCKS * BLOCK)
    os.truncate(image, size)
    return size


def _top(content: Path) -> set[str]:
    """Names in the root of a tar archive."""
    try:
        with tarfile.open(content, mode="r:") as archive:
            return {member.name.removeprefix("./").strip("/").partition("/")[0] for member in archive}
    except (OSError, tarfile.TarError) as error:
        raise ImageError(f"{content}: want a folder or an uncompressed tar archive: {error}") from None


def _missing(there: Iterable[str]) -> list[str]:
    return [word for name in MOUNT_POINTS if name not in there for word in ("-p", f"{name} d 755 0 0")]

"""The root file system of ``cvm.root``: opened with the measured root hash, read through once, mounted.

dm-verity checks a block when it is read, so a changed one would be noticed only when something needs it. Reading all of
them at boot makes it a matter of the boot: before any key is asked for, every byte has been what the command line
says. A block that changes later gives its reader an I/O error.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from attest.attester import kernel
from attest.attester.cmdline import RootOrder
from attest.attester.disk import MAPPER, find_disk
from attest.attester.errors import DiskFailed, RootFailed
from attest.attester.header_file import ENVIRONMENT
from policy.verity import BLOCK

ROOT = Path("/mnt/root")
PIECE = 256 * BLOCK
OPEN_SECONDS = 60


def open_root(order: RootOrder) -> Path:
    """Where it is mounted. Raises :class:`RootFailed`."""
    try:
        device = find_disk(order.name)
    except DiskFailed as exc:
        raise RootFailed(f"root: {exc.message}") from None
    _veritysetup(order, device.node)
    mapped = MAPPER / order.name
    read_through(mapped, order)
    _mount(mapped, order)
    return ROOT


def open_words(order: RootOrder, node: Path) -> list[str]:
    """The words of the veritysetup call: everything about the tree is said here, nothing is read from the disk."""
    return [
        "open", "--no-superblock",
        "--format", "1", "--hash", "sha256", "--salt", "-",
        "--data-block-size", str(BLOCK), "--hash-block-size", str(BLOCK),
        "--data-blocks", str(order.blocks), "--hash-offset", str(order.blocks * BLOCK),
        str(node), order.name, str(node), order.root_hash,
    ]  # fmt: skip


def read_through(mapped: Path, order: RootOrder) -> None:
    """Read every block once. Raises :class:`RootFailed` with the first that is not what the root hash says."""
    descriptor = os.open(mapped, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = order.blocks * BLOCK
        for at in range(0, size, PIECE):
            wanted = min(PIECE, size - at)
            if not _whole(descriptor, wanted, at):
                block = next(n for n in range(at // BLOCK, order.blocks) if not _whole(descriptor, BLOCK, n * BLOCK))
                raise RootFailed(
                    f"root {order.name}: block {block} of {order.blocks} is not what the measured root hash "
                    f"{order.root_hash[:16]}… says: the image was changed or damaged",
                    code="guest.root-changed",
                )
    finally:
        os.close(descriptor)


def _whole(descriptor: int, size: int, at: int) -> bool:
    try:
        return len(os.pread(descriptor, size, at)) == size
    except OSError:
        return False


def _veritysetup(order: RootOrder, node: Path) -> None:
    try:
        done = subprocess.run(
            ["veritysetup", *open_words(order, node)], env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
            check=False, timeout=OPEN_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise RootFailed(f"root {order.name}: veritysetup: {exc}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise RootFailed(f"root {order.name}: veritysetup: exit {done.returncode}: {said}")


def _mount(mapped: Path, order: RootOrder) -> None:
    ROOT.mkdir(parents=True, exist_ok=True)
    try:
        kernel.mount(mapped, ROOT, "squashfs", kernel.MS_RDONLY | kernel.MS_NODEV, "")
    except OSError as exc:
        raise RootFailed(f"root {order.name}: mounting squashfs from {mapped}: {exc.strerror}") from None


def furnish(root: Path) -> None:
    """What a program expects of a running system. Disks and secrets are below ``/run``, so this comes after them: a
    mount that is made later would not be seen inside. Raises :class:`RootFailed`.
    """
    try:
        for name in ("dev", "proc", "run", "sys"):
            kernel.mount(Path("/", name), root / name, "", kernel.MS_BIND | kernel.MS_REC, "")
        kernel.mount(Path("tmpfs"), root / "tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    except OSError as exc:
        raise RootFailed(f"root: {root}: mounting dev, proc, run, sys and tmp: {exc.strerror}") from None

"""Look at a VM's local disks before QEMU does: are they there, of the kind and format that is said, encrypted if so?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.core.luks import luks_problem
from launcher.core.qcow2 import HEADER_BYTES, Qcow2Header, Qcow2Malformed, first_bytes, parse_header
from launcher.core.storage import Backing
from launcher.core.vm import Disk, Verity
from launcher.errors import PlanRefused

_HEAD = 512


def check_disk(disk: Disk) -> None:
    """Every local copy. Raises :class:`PlanRefused` with the first thing that is wrong."""
    for backing in disk.copies:
        if backing.network is None:
            _check(disk, backing)
    for layer in disk.layers:
        check_layer(layer)
    if disk.verity is not None and disk.network is None:
        _check_tree(disk.path, disk.verity, f"disk {disk.name}: {disk.path}")
    if disk.key_file is not None and not os.path.exists(disk.key_file):
        raise PlanRefused(f"disk {disk.name}: {disk.key_file}: no such key file", code="storage.key-file")


def _check(disk: Disk, backing: Backing) -> None:
    path, where = backing.path, f"disk {disk.name}: {backing.path}"
    try:
        mode = os.stat(path).st_mode
    except OSError as exc:
        why = "no such file" if isinstance(exc, FileNotFoundError) else exc.strerror
        raise PlanRefused(f"{where}: {why}", code="storage.missing", hint="cvm disk create makes one") from None
    if backing.is_device != stat.S_ISBLK(mode):
        want = "a block device" if backing.is_device else "a regular file (block devices by their name in /dev)"
        raise PlanRefused(f"{where}: want {want}", code="storage.kind")
    if not backing.is_device and not stat.S_ISREG(mode):
        raise PlanRefused(f"{where}: is no regular file", code="storage.kind")
    _check_content(disk, backing, where)


def _check_content(disk: Disk, backing: Backing, where: str) -> None:
    try:
        with _opened(backing.path) as descriptor:

            def read(offset: int, length: int) -> bytes:
                return os.pread(descriptor, length, offset)

            _check_format(backing, read(0, 4), where)
            head = read(0, _HEAD) if backing.format == "raw" else None
            if backing.format == "qcow2":
                refuse_other_files(parse_header(read), where)
                head = first_bytes(read, _HEAD)
    except Qcow2Malformed as exc:
        raise PlanRefused(f"{where}: {exc.message}", code="storage.image-malformed") from None
    except (OSError, OverflowError) as exc:
        raise PlanRefused(f"{where}: cannot be read: {exc}", code="storage.unreadable") from None
    if head is not None:
        check_encrypted(disk, head, where)


def _check_tree(path: str, verity: Verity, where: str) -> None:
    """Whether the image has the blocks the VM file says and the top of its tree has the root hash. The guest checks
    every byte; this finds a mistake before the guest is started.
    """
    from policy.verity import BLOCK, root_hash, tree_blocks

    want = (verity.blocks + tree_blocks(verity.blocks)) * BLOCK
    try:
        with _opened(path) as descriptor:
            size = os.lseek(descriptor, 0, os.SEEK_END)
            top = os.pread(descriptor, BLOCK, verity.blocks * BLOCK)
    except OSError as exc:
        raise PlanRefused(f"{where}: cannot be read: {exc.strerror}", code="storage.unreadable") from None
    if size < want:
        raise PlanRefused(
            f"{where}: {size} bytes, want {want} for {verity.blocks} blocks and their hash tree",
            code="storage.verity-size",
            hint=_ROOT,
        )
    if root_hash(top) != verity.root_hash:
        raise PlanRefused(
            f"{where}: root hash {root_hash(top)}, want {verity.root_hash} (verity.root_hash)",
            code="storage.verity-root",
            hint=_ROOT,
        )


_ROOT = "cvm image root makes the image, and prints what belongs in the VM file"


def check_encrypted(disk: Disk, head: bytes, where: str) -> None:
    """A disk with an ``[encrypted]`` table must begin with a LUKS2 header. Raises :class:`PlanRefused`."""
    problem = luks_problem(head) if disk.resource is not None else ""
    if problem:
        raise PlanRefused(
            f"{where}: declared encrypted, but {problem}",
            code="storage.not-encrypted",
            hint="cvm disk create makes an encrypted disk; without [disk.encrypted] a disk is plain",
        )


def _check_format(backing: Backing, magic: bytes, where: str) -> None:
    """A raw disk that holds a qcow2 image is a mistake; taken as raw, its guest could name any file of the host's."""
    if backing.format == "raw" and magic == b"QFI\xfb":
        raise PlanRefused(f"{where}: holds a qcow2 image", code="storage.image-format", hint='format = "qcow2"')


def image_header(head: bytes, where: str) -> Qcow2Header:
    """Of an image whose first bytes are ``head``. Raises :class:`PlanRefused`."""
    try:
        return parse_header(lambda offset, length: head[offset : offset + length])
    except Qcow2Malformed as exc:
        raise PlanRefused(f"{where}: {exc.message}", code="storage.image-malformed") from None


def refuse_other_files(header: Qcow2Header, where: str) -> None:
    """Raise :class:`PlanRefused` for an image that is not whole by itself."""
    if header.backing is not None:
        raise PlanRefused(
            f"{where}: is an overlay of {header.backing[:200]!r}: {_CHOOSES}", code="storage.overlay", hint=_WHOLE
        )
    _refuse_data_file(header, where)


def _refuse_data_file(header: Qcow2Header, where: str) -> None:
    """QEMU opens the file that the image names and shows it to the guest as the disk, whatever file that is."""
    if header.external_data:
        raise PlanRefused(
            f"{where}: keeps its data in a file it names: {_CHOOSES}", code="storage.data-file", hint=_WHOLE
        )


_CHOOSES = "an image that names other files chooses what QEMU opens"
_WHOLE = "qemu-img convert makes a whole image of it"


def check_layer(path: str) -> None:
    """An overlay over a raw disk. What it lies on is said by the record; nothing says what data file it may name."""
    where = f"layer {path}"
    try:
        with _opened(path) as descriptor:
            head = os.pread(descriptor, HEADER_BYTES, 0)
    except OSError as exc:
        raise PlanRefused(f"{where}: cannot be read: {exc}", code="storage.unreadable") from None
    _refuse_data_file(image_header(head, where), where)


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

"""One encrypted disk from its serial number to its mount point."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from attest.attester import kernel
from attest.attester.errors import DiskFailed
from attest.attester.header_file import HeaderFile, run_cryptsetup
from policy.luks_header import check_luks_header, recognise, valid_copies
from policy.luks_metadata import PAYLOAD_OFFSET, HeaderRefused
from policy.secret import SecretBytes

SYS_BLOCK = Path("/sys/block")
DEV = Path("/dev")
HEADERS = Path("/run/cvm/header")
MOUNTS = Path("/run/cvm/disk")
MAPPER = Path("/dev/mapper")
# The header profile's key derivation is fast because the key is random; a guessable key must not meet it.
KEY_BYTES = range(32, 513)


class BlockDevice(NamedTuple):
    """A disk as the kernel shows it."""

    node: Path
    read_only: bool


def find_disk(
    serial: str,
    *,
    seconds: float = 10.0,
    sys: Path = SYS_BLOCK,
    dev: Path = DEV,
    sleep: Callable[[float], None] = time.sleep,
) -> BlockDevice:
    """The disk whose virtio serial is ``serial``; the driver gets up to ``seconds`` to find it. Two are an error."""
    for _ in range(max(1, int(seconds / 0.1))):
        found = [entry for entry in sorted(sys.glob("*")) if _attribute(entry / "serial") == serial]
        if len(found) > 1:
            raise DiskFailed(f"disk {serial}: {len(found)} disks have this serial, want one")
        if found and (dev / found[0].name).exists():
            return BlockDevice(dev / found[0].name, _attribute(found[0] / "ro") == "1")
        sleep(0.1)
    raise DiskFailed(f"disk {serial}: no disk has this serial after {seconds:g} s")


def read_header(device: Path) -> bytes:
    """The first 16 MiB, read once. Everything after works with this copy."""
    parts: list[bytes] = []
    left = PAYLOAD_OFFSET
    try:
        with device.open("rb", buffering=0) as disk:
            while left and (part := disk.read(min(left, 1 << 20))):
                parts.append(part)
                left -= len(part)
    except OSError as exc:
        raise DiskFailed(f"disk {device}: {exc.strerror}") from None
    if left:
        raise DiskFailed(f"disk {device}: {PAYLOAD_OFFSET - left} bytes, want more than {PAYLOAD_OFFSET}")
    return b"".join(parts)


def checked_copy(device: Path, name: str, folder: Path = HEADERS) -> tuple[str, Path]:
    """Copy the header into a file of the (RAM) root if it is of the profile; its uuid, and the file.

    Raises HeaderRefused. Whether it is the header this disk should have is asked once the service has said which that
    is: :func:`recognised`.
    """
    data = read_header(device)
    try:
        header = valid_copies(data)[0]
    except HeaderRefused as exc:
        raise HeaderRefused(f"disk {name}: header refused: {exc.message}") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return header.uuid, path


def recognised(device: Path, name: str, copy: Path, digests: frozenset[str]) -> HeaderFile:
    """The header in ``copy``, if it is one of ``digests``; without any, if it is whole and has one keyslot.

    From then on the file holds this header and no other. Raises HeaderRefused, before a key meets it.
    """
    data = copy.read_bytes()
    try:
        header = recognise(data, digests) if digests else check_luks_header(data)
    except HeaderRefused as exc:
        raise HeaderRefused(f"disk {name}: header refused: {exc.message}") from None
    return HeaderFile(device, name, copy, data, header)


def open_words(device: BlockDevice, header: Path, name: str, key_bytes: int) -> list[str]:
    """The words of the cryptsetup call. The key comes on standard input; the disk's own header is never read."""
    return [
        "open",
        "--type", "luks2",
        "--header", str(header),
        "--key-file", "-",
        "--keyfile-size", str(key_bytes),
        *(["--readonly"] if device.read_only else []),
        str(device.node), name,
    ]  # fmt: skip


def open_disk(device: BlockDevice, header: Path, name: str, key: SecretBytes) -> Path:
    """The decrypted device under /dev/mapper."""
    if len(key) not in KEY_BYTES:
        raise DiskFailed(f"disk {name}: key of {len(key)} bytes, want {KEY_BYTES.start} to {KEY_BYTES.stop - 1}")
    run_cryptsetup(name, *open_words(device, header, name, len(key)), stdin=key.reveal())
    return MAPPER / name


def mount_disk(mapped: Path, name: str, *, read_only: bool, folder: Path = MOUNTS) -> Path:
    """ext4 on ``mapped`` at ``folder/name``; no device nodes, no set-uid programs."""
    target = folder / name
    target.mkdir(parents=True, exist_ok=True, mode=0o755)
    flags = kernel.MS_NODEV | kernel.MS_NOSUID | (kernel.MS_RDONLY if read_only else 0)
    options = "noload" if read_only else "errors=remount-ro"
    try:
        kernel.mount(mapped, target, "ext4", flags, options)
    except OSError as exc:
        raise DiskFailed(f"disk {name}: mounting ext4 from {mapped}: {exc.strerror}") from None
    return target


def _attribute(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip().strip("\0")
    except OSError:
        return ""

"""One encrypted disk from its serial number to its mount point."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from attest.attester import kernel
from attest.attester.errors import DiskFailed, HeaderRefused
from attest.attester.luks_header import PAYLOAD_OFFSET, LuksHeader, check_luks_header
from policy.secret import SecretBytes

SYS_BLOCK = Path("/sys/block")
DEV = Path("/dev")
HEADERS = Path("/run/cvm/header")
MOUNTS = Path("/run/cvm/disk")
MAPPER = Path("/dev/mapper")
OPEN_SECONDS = 300
# The header profile's key derivation is fast because the key is random; a guessable key must not meet it.
KEY_BYTES = range(32, 513)
# Nothing answers udev cookies in the initrd: device-mapper makes the nodes itself.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DM_DISABLE_UDEV": "1", "LC_ALL": "C"}


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


def checked_copy(device: Path, name: str, folder: Path = HEADERS) -> tuple[LuksHeader, Path]:
    """Copy the header into memory, check the copy, and put that same copy into a file of the (RAM) root."""
    data = read_header(device)
    try:
        header = check_luks_header(data)
    except HeaderRefused as exc:
        raise HeaderRefused(f"disk {name}: header refused: {exc.message}") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return header, path


def open_command(device: BlockDevice, header: Path, name: str, key_bytes: int) -> list[str]:
    """The cryptsetup call. The key comes on standard input; the disk's own header is never read."""
    return [
        "cryptsetup", "open",
        "--type", "luks2",
        "--header", str(header),
        "--key-file", "-",
        "--keyfile-size", str(key_bytes),
        "--key-slot", "0",
        "--batch-mode",
        *(["--readonly"] if device.read_only else []),
        str(device.node), name,
    ]  # fmt: skip


def open_disk(device: BlockDevice, header: Path, name: str, key: SecretBytes) -> Path:
    """The decrypted device under /dev/mapper."""
    if len(key) not in KEY_BYTES:
        raise DiskFailed(f"disk {name}: key of {len(key)} bytes, want {KEY_BYTES.start} to {KEY_BYTES.stop - 1}")
    command = open_command(device, header, name, len(key))
    try:
        done = subprocess.run(
            command, input=key.reveal(), capture_output=True, env=ENVIRONMENT, timeout=OPEN_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DiskFailed(f"disk {name}: cryptsetup: {exc}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or "no message"
        hint = "the key does not open this disk" if done.returncode == 2 else f"exit {done.returncode}"
        raise DiskFailed(f"disk {name}: cryptsetup: {hint}: {said[:400]}")
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

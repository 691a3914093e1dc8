"""An encrypted disk image made without device-mapper, loop devices or root.

``cryptsetup luksFormat`` writes the header; it gets the key on standard input and a volume key chosen here through a
pipe, so neither is ever in a file, an argument or the environment. ``mke2fs`` makes an ext4 file system with the
contents in a file without a name, and its blocks are encrypted into the image the way dm-crypt would.

Header profile (what the guest's allow-list accepts): LUKS2, one keyslot, aes-xts-plain64 with 512 bits, PBKDF2-SHA256
(the key is 256 random bits: nothing is gained by slow derivation), payload at 16 MiB, 4096-byte sectors, no tokens.

Holes of the file system stay holes of the image: the image is as large as its contents, and anybody who has the image
can see which blocks were never written. What the guest reads from such a block is noise, as from any freshly
formatted disk; ext4 does not read what it did not write (inode tables are marked as not yet initialised).
"""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.image.errors import DiskFailed, DiskOrderInvalid, DiskToolMissing
from launcher.image.xts import SECTOR, VOLUME_KEY_BYTES, encrypt_sectors
from policy.luks_header import check_luks_header, header_digest
from policy.luks_metadata import PAYLOAD_OFFSET
from policy.secret import SecretBytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Final

MINIMUM_SIZE: Final = PAYLOAD_OFFSET + 8 * 1024 * 1024
KEY_BYTES: Final = 32
PBKDF2_ITERATIONS: Final = 1000

_PIECE: Final = 1 << 20
_ADMIN_PATH: Final = ":/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class DiskSecrets:
    """``key`` opens the keyslot and is what the service keeps; ``volume_key`` encrypts the sectors and is thrown
    away.
    """

    key: SecretBytes
    volume_key: SecretBytes

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES or len(self.volume_key) != VOLUME_KEY_BYTES:
            raise TypeError(f"want {KEY_BYTES} and {VOLUME_KEY_BYTES} random bytes")


def check_size(size: int) -> None:
    """Raises DiskFailed when ``size`` (bytes of the whole image) cannot be a disk of this profile."""
    if size < MINIMUM_SIZE or size % SECTOR:
        raise DiskOrderInvalid(
            f"disk: size {size} bytes, want a multiple of {SECTOR} and at least {MINIMUM_SIZE >> 20} MiB"
        )


def write_disk(image: Path, size: int, secrets: DiskSecrets, content: Path | None) -> str:
    """Make the image in the empty file ``image``; ``content`` is a folder to copy into it.

    Returns the digest of its header (`policy.luks_header`). Raises DiskFailed; HeaderRefused where cryptsetup made a
    header that no guest would open.
    """
    check_size(size)
    if content is not None and not content.is_dir():
        raise DiskOrderInvalid(f"disk: contents {content}: no such folder")
    try:
        os.truncate(image, size)
        _format_header(image, secrets)
        with tempfile.TemporaryFile(dir=image.parent) as plain:
            plain.truncate(size - PAYLOAD_OFFSET)
            _make_file_system(plain, content)
            _encrypt_into(image, plain, secrets.volume_key)
        with image.open("rb") as made:
            head = made.read(PAYLOAD_OFFSET)
    except OSError as error:
        raise DiskFailed(f"{image.name}: {error.strerror}") from error
    return header_digest(head, check_luks_header(head))


def _format_header(image: Path, secrets: DiskSecrets) -> None:
    read_end, write_end = os.pipe()
    try:
        # 64 bytes always fit into a pipe, so this cannot wait.
        os.write(write_end, secrets.volume_key.reveal())
    finally:
        os.close(write_end)
    command = (
        "cryptsetup", "luksFormat", "--batch-mode",
        "--type", "luks2",
        "--cipher", "aes-xts-plain64",
        "--key-size", str(VOLUME_KEY_BYTES * 8),
        "--hash", "sha256",
        "--pbkdf", "pbkdf2",
        "--pbkdf-force-iterations", str(PBKDF2_ITERATIONS),
        "--sector-size", str(SECTOR),
        "--offset", str(PAYLOAD_OFFSET // 512),
        "--volume-key-file", f"/dev/fd/{read_end}",
        "--key-file", "-",
        "--keyfile-size", str(KEY_BYTES),
        str(image.absolute()),
    )  # fmt: skip
    try:
        _run(command, stdin=secrets.key.reveal(), pass_fds=(read_end,), package="cryptsetup-bin")
    finally:
        os.close(read_end)


def _make_file_system(plain: IO[bytes], content: Path | None) -> None:
    command = [
        "mke2fs", "-q", "-F",
        "-t", "ext4",
        "-b", str(SECTOR),
        "-m", "0",
        # Nothing may count on a block being zero that was not written: the guest reads noise there.
        "-E", "root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        *(("-d", str(content.absolute())) if content is not None else ()),
        f"/proc/self/fd/{plain.fileno()}",
    ]  # fmt: skip
    _run(command, stdin=b"", pass_fds=(plain.fileno(),), package="e2fsprogs")


def _encrypt_into(image: Path, plain: IO[bytes], volume_key: SecretBytes) -> None:
    key = volume_key.reveal()
    with image.open("r+b", buffering=0) as target:
        for start, end in _written(plain.fileno()):
            for offset in range(start, end, _PIECE):
                piece = os.pread(plain.fileno(), min(_PIECE, end - offset), offset)
                os.pwrite(target.fileno(), encrypt_sectors(key, offset // SECTOR, piece), PAYLOAD_OFFSET + offset)
        os.fsync(target.fileno())


def _written(descriptor: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes, as ``(start, end)``, widened to whole sectors and never overlapping."""
    size, position = os.fstat(descriptor).st_size, 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start, end = max(position, start // SECTOR * SECTOR), min(size, -(-end // SECTOR) * SECTOR)
        yield start, end
        position = end


def _run(command: Sequence[str], *, stdin: bytes, pass_fds: tuple[int, ...], package: str) -> None:
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin") + _ADMIN_PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, input=stdin, env=env, pass_fds=pass_fds, capture_output=True, check=False)
    except FileNotFoundError:
        raise DiskToolMissing(f"{command[0]} is not on this machine", hint=f"install the package {package}") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise DiskFailed(f"{command[0]}: exit {done.returncode}: {said[-400:]}")

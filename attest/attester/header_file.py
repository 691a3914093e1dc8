"""A disk's LUKS2 header in memory: cryptsetup changes keyslots of this copy, and we put the result on the disk.

cryptsetup never works on the disk itself, because the host could change a header between our look and cryptsetup's.

**Writing survives a cut anywhere**, for a disk whose header has been told to the key service: first the areas of
keyslots that the new header names and the old one does not use, then the second copy, then the first, then everything
else, each on stable storage before the next. At every moment one copy is whole, and it is the old header or the new.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from attest.attester.errors import DiskFailed
from policy.luks_header import LuksHeader, header_digest, in_both_copies, valid_copies
from policy.luks_metadata import CIPHER, KEY_BYTES, PAYLOAD_OFFSET, SLOTS, HeaderRefused
from policy.secret import SecretBytes

BLOCK = 4096
CRYPTSETUP_SECONDS = 300
ITERATIONS = 1000
# Nothing answers udev cookies in the initrd: device-mapper makes the nodes itself.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DM_DISABLE_UDEV": "1", "LC_ALL": "C"}


class Span(NamedTuple):
    """Bytes of the header's 16 MiB, ``end`` excluded."""

    start: int
    end: int


class HeaderFile:
    """The header of ``disk``. ``on_disk`` are its first 16 MiB as they were read, ``header`` the copy that counts.

    ``path`` is a file in memory that this object owns from now on.
    """

    def __init__(self, disk: Path, name: str, path: Path, on_disk: bytes, header: LuksHeader) -> None:
        self._disk = disk
        self._name = name
        self._path = path
        self._on_disk = on_disk
        self.header = header
        self._data = in_both_copies(on_disk, header)
        self._write_file()

    @property
    def digest(self) -> str:
        """The digest of the header in memory."""
        return header_digest(self._data, self.header)

    def opened_by(self, key: SecretBytes) -> tuple[int, ...]:
        """The keyslots that ``key`` opens."""
        return tuple(slot.number for slot in self.header.slots if self._opens(key, slot.number))

    def add(self, key: SecretBytes, new: SecretBytes) -> None:
        """Add a keyslot for ``new``; ``key`` opens another. In memory only. Raises DiskFailed, HeaderRefused."""
        free = [name for name in SLOTS if int(name) not in {slot.number for slot in self.header.slots}]
        if not free:
            raise DiskFailed(f"disk {self._name}: its header has no free keyslot")
        read_end, write_end = os.pipe()
        try:
            os.write(write_end, new.reveal())  # fewer bytes than a pipe holds
            os.close(write_end)
            self._run(
                "luksAddKey",
                "--key-slot", free[0],
                "--pbkdf", "pbkdf2", "--hash", "sha256", "--pbkdf-force-iterations", str(ITERATIONS),
                "--keyslot-cipher", CIPHER, "--keyslot-key-size", str(KEY_BYTES * 8),
                "--key-file", "-", "--keyfile-size", str(len(key)),
                "--new-keyfile-size", str(len(new)),
                str(self._path), f"/proc/self/fd/{read_end}",
                stdin=key.reveal(), pass_fds=(read_end,),
            )  # fmt: skip
        finally:
            os.close(read_end)
        self._read_file()
        if not self._opens(new, int(free[0])):
            raise DiskFailed(f"disk {self._name}: keyslot {free[0]} does not open with the key it was made for")

    def keep_only(self, key: SecretBytes) -> None:
        """Remove every keyslot that ``key`` does not open, and what old ones left behind. In memory only.

        Raises DiskFailed where ``key`` opens none: nothing is removed then.
        """
        kept = self.opened_by(key)
        if not kept:
            raise DiskFailed(f"disk {self._name}: the key in force opens no keyslot, none is removed")
        for slot in self.header.slots:
            if slot.number != kept[0]:
                self._run("luksKillSlot", str(self._path), str(slot.number))
        self._read_file()
        self._data = _without_remains(self._data, self.header)
        self._write_file()

    def store(self) -> None:
        """Put the header on the disk, in the order that survives a cut. Nothing is written where nothing changed."""
        old = [area for copy in valid_copies(self._on_disk) for area in _areas(copy)]
        changed = [block for block in range(0, PAYLOAD_OFFSET, BLOCK) if self._differs(block)]
        named, second, first, rest = _phases(changed, self.header)
        if any(_inside(block, old) for block in named):
            raise DiskFailed(f"disk {self._name}: a keyslot in use would be overwritten")
        try:
            descriptor = os.open(self._disk, os.O_WRONLY | os.O_CLOEXEC)
            try:
                for blocks in (named, second, first, rest):
                    self._write(descriptor, blocks)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise DiskFailed(f"disk {self._name}: writing its header: {exc.strerror}") from None
        self._on_disk = self._data

    def discard(self) -> None:
        """Remove the file in memory."""
        self._path.unlink(missing_ok=True)

    def _differs(self, block: int) -> bool:
        return self._data[block : block + BLOCK] != self._on_disk[block : block + BLOCK]

    def _write(self, descriptor: int, blocks: Sequence[int]) -> None:
        for span in _together(blocks):
            if os.pwrite(descriptor, self._data[span.start : span.end], span.start) != span.end - span.start:
                raise DiskFailed(f"disk {self._name}: its header was written in part only")
        if blocks:
            os.fsync(descriptor)

    def _opens(self, key: SecretBytes, slot: int) -> bool:
        try:
            self._run(
                "open", "--type", "luks2", "--test-passphrase", "--key-slot", str(slot),
                "--key-file", "-", "--keyfile-size", str(len(key)), str(self._path),
                stdin=key.reveal(),
            )  # fmt: skip
        except WrongKey:
            return False
        return True

    def _run(self, *words: str, stdin: bytes = b"", pass_fds: tuple[int, ...] = ()) -> None:
        run_cryptsetup(self._name, *words, stdin=stdin, pass_fds=pass_fds)

    def _write_file(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self._data)

    def _read_file(self) -> None:
        """What cryptsetup made of it, checked like any header."""
        data = self._path.read_bytes()
        copies = valid_copies(data)
        if len(copies) != 1 or len(data) != PAYLOAD_OFFSET:
            raise HeaderRefused(f"disk {self._name}: cryptsetup left two headers that differ")
        self._data, self.header = data, copies[0]


class WrongKey(DiskFailed):
    """The key opens no keyslot that was asked for."""


def run_cryptsetup(name: str, *words: str, stdin: bytes = b"", pass_fds: tuple[int, ...] = ()) -> None:
    """Run it. Raises WrongKey, DiskFailed; ``name`` is the disk's, for the message."""
    try:
        done = subprocess.run(
            ("cryptsetup", "--batch-mode", *words), input=stdin, capture_output=True, env=ENVIRONMENT,
            timeout=CRYPTSETUP_SECONDS, check=False, pass_fds=pass_fds,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise DiskFailed(f"disk {name}: cryptsetup: {exc}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or "no message"
        if done.returncode == 2:
            raise WrongKey(f"disk {name}: cryptsetup: the key does not open this disk: {said[:400]}")
        raise DiskFailed(f"disk {name}: cryptsetup: exit {done.returncode}: {said[:400]}")


def _areas(header: LuksHeader) -> tuple[Span, ...]:
    return tuple(Span(slot.start, slot.start + slot.size) for slot in header.slots)


def _phases(changed: Sequence[int], header: LuksHeader) -> tuple[list[int], list[int], list[int], list[int]]:
    """Changed blocks: of the header's own areas, of the second copy, of the first, the others."""
    size, areas = header.header_bytes, _areas(header)
    first = [block for block in changed if block < size]
    second = [block for block in changed if size <= block < 2 * size]
    behind = [block for block in changed if block >= 2 * size]
    named = [block for block in behind if _inside(block, areas)]
    return named, second, first, [block for block in behind if not _inside(block, areas)]


def _together(blocks: Sequence[int]) -> list[Span]:
    """Neighbouring blocks as one span each."""
    spans: list[Span] = []
    for block in blocks:
        if spans and spans[-1].end == block:
            spans[-1] = Span(spans[-1].start, block + BLOCK)
        else:
            spans.append(Span(block, block + BLOCK))
    return spans


def _inside(block: int, spans: Sequence[Span]) -> bool:
    return any(span.start < block + BLOCK and block < span.end for span in spans)


def _without_remains(data: bytes, header: LuksHeader) -> bytes:
    """Zeros wherever no keyslot lies: key material of removed ones is gone, also of those an earlier try removed."""
    return b"".join(_kept(data, header))


def _kept(data: bytes, header: LuksHeader) -> Iterator[bytes]:
    at = 2 * header.header_bytes
    yield data[:at]
    for span in sorted(_areas(header)):
        yield bytes(span.start - at)
        yield data[span.start : span.end]
        at = span.end
    yield bytes(PAYLOAD_OFFSET - at)

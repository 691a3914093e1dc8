"""Replacing a disk's key, from inside the guest, so that a crash between any two steps loses nothing.

The service offers the key in force and the next one. Each step is done only if it is not done yet, so a guest that
died goes on where it was at its next boot:

0. Where the service does not know the present header yet, it is told: power may fail while the other one is written.
1. The next key gets a keyslot, in memory. The service is told the digest the header will have, and accepts it from
   then on beside the present one.
2. The header is written to the disk. Both keys open it.
3. The service is told that it is there: it makes the next key the one in force and erases the old one.
4. The old key's keyslot is removed, in memory; the service is told the digest; the header is written.
5. The service is told: from now on it accepts this header alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attest.attester.disk_key import DiskKey
from attest.attester.errors import DiskFailed
from policy.secret import SecretBytes

WILL, HAS, ONLY = "will", "has", "only"
Report = Callable[[int, str, str], None]
"""Version, header digest, and what the disk does with it. Raises CvmError where the service does not agree."""


class Keyslots(Protocol):
    """See :class:`attest.attester.header_file.HeaderFile`."""

    @property
    def digest(self) -> str:
        """Of the header in memory."""

    def opened_by(self, key: SecretBytes) -> tuple[int, ...]:
        """Which keyslots."""

    def add(self, key: SecretBytes, new: SecretBytes) -> None:
        """In memory."""

    def keep_only(self, key: SecretBytes) -> None:
        """In memory."""

    def store(self) -> None:
        """On the disk."""


def wanted(disk: DiskKey) -> bool:
    """Whether there is anything to do."""
    return disk.facts.next is not None or disk.facts.finish


def rotate(slots: Keyslots, disk: DiskKey, report: Report) -> int:
    """Do what is left to do; the version that is in force then. Raises CvmError: nothing is lost, try again later."""
    slots.store()  # where power failed between the two copies, mend the other one
    version, key = disk.facts.version, disk.key
    if not disk.facts.headers:
        report(version, slots.digest, HAS)
    if disk.facts.next is not None and disk.next_key is not None:
        version, key = disk.facts.next.version, disk.next_key
        if slots.digest not in disk.facts.next.headers:
            slots.add(disk.key, key)
            _write(slots, version, report)
        elif not slots.opened_by(key):
            raise DiskFailed(f"the next key (version {version}) does not open the header that was made for it")
        report(version, slots.digest, HAS)
    slots.keep_only(key)
    _write(slots, version, report)
    report(version, slots.digest, ONLY)
    return version


def _write(slots: Keyslots, version: int, report: Report) -> None:
    report(version, slots.digest, WILL)
    slots.store()

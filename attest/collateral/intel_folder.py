"""Intel's collateral from a folder that people fill, files being told apart by content only."""

from __future__ import annotations

from pathlib import Path

from attest.collateral.folder import files_below, folder_signature, read_small
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.intel_file import read_intel_file


class IntelFolder:
    """``current()`` gives what the folder, where there is one, holds now.

    The folder is read again when a file in it appears, goes or changes, and the same object is returned until then.
    Damaged files and other vendors' are passed over: a service does not stop for one.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen: tuple[tuple[str, int, int], ...] | None = None
        self._pool = IntelCollateral()

    def current(self) -> IntelCollateral:
        """Raises CollateralUnreadable when the folder cannot be read."""
        if self._folder is None:
            return self._pool
        signature = folder_signature(self._folder)
        if signature != self._seen:
            found = IntelCollateral()
            for path in files_below(self._folder):
                found += intel_collateral_of(read_small(path))
            self._pool = IntelCollateral(found.certificates, found.crls, found.tcb_infos, found.qe_identities)
            self._seen = signature
        return self._pool


def intel_collateral_of(data: bytes) -> IntelCollateral:
    """What one file holds: nothing where it is not Intel's, ``damaged`` where it is and does not parse."""
    found = read_intel_file(data)
    return IntelCollateral.of(found.certificates, found.crls, found.tcb_infos, found.qe_identities, found.damaged)

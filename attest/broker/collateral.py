"""The operator's folder of certificates and CRLs, read again when a file in it changes."""

from __future__ import annotations

import os
from pathlib import Path

from attest.broker.errors import ServiceMisconfigured
from attest.collateral.published import published_authorities
from attest.endorsement.pool import EndorsementSet
from attest.evidence.collateral_file import MAX_FILE, read_collateral_file

MAX_FILES = 4096
_Signature = tuple[tuple[str, int, int], ...]


class CollateralFolder:
    """``current()`` gives AMD's published authorities and what the folder, where there is one, holds now."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen: _Signature | None = None
        self._set = published_authorities()

    def current(self) -> EndorsementSet:
        """Raises ServiceMisconfigured when the folder cannot be read."""
        if self._folder is None:
            return self._set
        signature = _signature(self._folder)
        if signature != self._seen:
            self._set = published_authorities() + load_folder(self._folder)
            self._seen = signature
        return self._set


def load_folder(folder: Path) -> EndorsementSet:
    """Every AMD certificate and CRL of the folder's files, told apart by content; other files are passed over."""
    pool = EndorsementSet()
    for path in sorted(folder.iterdir())[:MAX_FILES]:
        if path.is_file() and path.stat().st_size <= MAX_FILE:
            found = read_collateral_file(path.read_bytes())
            pool += EndorsementSet.of(found.certificates, found.crls)
    return pool


def _signature(folder: Path) -> _Signature:
    try:
        with os.scandir(folder) as entries:
            files = [(entry.name, entry.stat()) for entry in entries]
    except OSError as exc:
        raise ServiceMisconfigured(f"collateral folder {folder}: {exc.strerror}") from None
    return tuple(sorted((name, status.st_mtime_ns, status.st_size) for name, status in files))

"""Certificates and CRLs from folders that people fill, files being told apart by content only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from attest.collateral.errors import CollateralUnreadable
from attest.collateral.published import published_authorities
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl
from attest.evidence.collateral_file import MAX_FILE, read_collateral_file
from attest.evidence.errors import EvidenceMalformed

_MAX_FILES = 20_000
Warn = Callable[[str], None]
_Signature = tuple[tuple[str, int, int], ...]


def load_collateral_dir(folder: Path, warn: Warn | None = None) -> EndorsementSet:
    """Everything usable below ``folder`` (or in the file of that name).

    Files that hold no AMD certificates are passed over; damaged certificates are kept as errors that name their file,
    and told to ``warn``. Raises :class:`CollateralUnreadable` when the folder itself cannot be read.
    """
    certificates: list[AmdCertificate] = []
    crls: list[AmdCrl] = []
    damaged: list[EvidenceMalformed] = []
    for path in files_below(folder):
        found = read_collateral_file(read_small(path))
        certificates += found.certificates
        crls += found.crls
        for problem in found.damaged:
            damaged.append(EvidenceMalformed(f"{path.name}: {problem.message}"))
            if warn is not None:
                warn(f"{path}: {problem.message}")
    pool = EndorsementSet.of(certificates, crls)
    return EndorsementSet(pool.leaves, pool.intermediates, pool.roots, pool.crls, damaged=tuple(damaged))


def load_collateral(folders: Iterable[Path], warn: Warn | None = None) -> EndorsementSet:
    """Several folders as one set."""
    pool = EndorsementSet()
    for folder in folders:
        pool += load_collateral_dir(folder, warn)
    return pool


class CollateralFolder:
    """``current()`` gives AMD's published authorities and what the folder, where there is one, holds now.

    The folder is read again when a file in it appears, goes or changes. Damaged files are passed over: a service does
    not stop for one.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen: _Signature | None = None
        self._set = published_authorities()

    def current(self) -> EndorsementSet:
        """Raises :class:`CollateralUnreadable` when the folder cannot be read."""
        if self._folder is None:
            return self._set
        signature = folder_signature(self._folder)
        if signature != self._seen:
            found = load_collateral_dir(self._folder)
            self._set = published_authorities() + EndorsementSet(
                found.leaves, found.intermediates, found.roots, found.crls
            )
            self._seen = signature
        return self._set


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and its folders, in a fixed order. Raises :class:`CollateralUnreadable`."""
    if folder.is_file():
        yield folder
        return
    if not folder.is_dir():
        raise CollateralUnreadable(f"collateral {folder}: no such folder")
    count = 0
    for where, names, files in os.walk(folder, onerror=_raise):
        names.sort()
        for name in sorted(files):
            path = Path(where, name)
            if not path.is_file():
                continue  # sockets and dangling links are nobody's collateral
            count += 1
            if count > _MAX_FILES:
                raise CollateralUnreadable(f"collateral {folder}: more than {_MAX_FILES} files")
            yield path


def _raise(error: OSError) -> None:
    raise CollateralUnreadable(f"collateral {error.filename}: {error.strerror}")


def read_small(path: Path) -> bytes:
    """At most one byte more than any collateral file has; a longer file is something else."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as exc:
        raise CollateralUnreadable(f"collateral {path}: {exc.strerror}") from None
    return b"" if len(data) > MAX_FILE else data


def folder_signature(folder: Path) -> _Signature:
    """Name, time and size of every file: another one means that the folder has to be read again."""
    found = []
    for path in files_below(folder):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # gone since it was listed: seen next time
        except OSError as exc:
            raise CollateralUnreadable(f"collateral {path}: {exc.strerror}") from None
        found.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(found)

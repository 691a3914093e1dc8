"""Intel's collateral from a folder that people fill, files being told apart by content only.

Answers of Intel's service as they were served (``{"tcbInfo": …}``, ``{"enclaveIdentity": …}``), issuer chains in PEM,
revocation lists in DER, PEM or the hexadecimal text that a PCCS serves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from attest.collateral.folder import files_below, folder_signature, read_small
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, UnrelatedIntelCertificate
from attest.evidence.intel_json import parse_qe_identity, parse_tcb_info
from attest.evidence.pem import CERTIFICATE, CRL, looks_like_pem, parse_pem

_HEX = re.compile(rb"\s*30[0-9a-fA-F]+\s*")
_SEQUENCE = b"\x30"
_T = TypeVar("_T")


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
    try:
        return _read(data)
    except UnrelatedIntelCertificate:
        return IntelCollateral()
    except EvidenceMalformed as exc:
        return IntelCollateral(damaged=(exc,))


def _read(data: bytes) -> IntelCollateral:
    if data.lstrip()[:1] == b"{":
        if b'"tcbInfo"' in data:
            return IntelCollateral.of(tcb_infos=[parse_tcb_info(data)])
        if b'"enclaveIdentity"' in data:
            return IntelCollateral.of(qe_identities=[parse_qe_identity(data)])
        return IntelCollateral()
    if looks_like_pem(data):
        blocks = parse_pem(data)
        return IntelCollateral.of(
            _related(IntelCertificate.parse, (block.data for block in blocks if block.label == CERTIFICATE)),
            _related(IntelCrl.parse, (block.data for block in blocks if block.label == CRL)),
        )
    der = bytes.fromhex(data.decode("ascii")) if _HEX.fullmatch(data) and len(data.strip()) % 2 == 0 else data
    if der[:1] != _SEQUENCE:
        return IntelCollateral()
    try:
        return IntelCollateral.of([IntelCertificate.parse(der)])
    except UnrelatedIntelCertificate:
        return IntelCollateral()
    except EvidenceMalformed:
        return IntelCollateral.of(crls=[IntelCrl.parse(der)])


def _related(parse: Callable[[bytes], _T], items: Iterable[bytes]) -> list[_T]:
    found: list[_T] = []
    for item in items:
        with suppress(UnrelatedIntelCertificate):
            found.append(parse(item))
    return found

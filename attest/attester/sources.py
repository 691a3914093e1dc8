"""Where the guest's evidence comes from, and the choice between the places.

On hardware: configfs-tsm first, ``/dev/sev-guest`` next; in a TD configfs-tsm first, ``/dev/tdx_guest`` with the host's
quoting service over vsock next. An emulated chip is asked only when the measured command line says
``cvm.evidence=emulated``, and then nothing else is: the two are never mixed, so no host can swap real evidence for
emulated evidence, or the other way round, without changing what was measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from attest.attester.configfs_tsm import configfs_quote, configfs_report
from attest.attester.emulated import emulated_quote, emulated_report, emulated_tee
from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import MAX_CERTIFICATES, REPORT_DATA_BYTES, TDX, RawEvidence, SourceAbsent
from attest.attester.sev_guest import sev_guest_report
from attest.attester.tdx_guest import DEVICE, own_mrconfigid, tdx_guest_quote

Source = Callable[[bytes], RawEvidence]


def first_present(sources: tuple[Source, ...], report_data: bytes) -> RawEvidence:
    """Ask the sources in order; only absence leads to the next one."""
    absent: list[str] = []
    for source in sources:
        try:
            return checked(source(report_data), report_data)
        except SourceAbsent as exc:
            absent.append(exc.message)
    raise EvidenceUnavailable(f"no source of evidence: {'; '.join(absent)}")


def checked(evidence: RawEvidence, report_data: bytes) -> RawEvidence:
    """A source that answers something else than what was asked is broken: say so here, where it can be seen."""
    got = evidence.report_data
    if got != report_data:
        raise EvidenceUnavailable(
            f"{evidence.source}: the report is about other report data, {got[:8].hex()}…, want {report_data[:8].hex()}…"
        )
    if len(evidence.certificates) > MAX_CERTIFICATES:
        raise EvidenceUnavailable(
            f"{evidence.source}: certificate table of {len(evidence.certificates)} bytes is too long"
        )
    return evidence


def tee_here(*, emulated_chip: bool, device: Path = DEVICE) -> str:
    """The TEE this guest runs in, ``snp`` or ``tdx``: by the emulated chip's port, or by the kernel's device."""
    if emulated_chip:
        return emulated_tee()
    return TDX if device.exists() else "snp"


def own_binding(tee: str, *, emulated_chip: bool) -> bytes:
    """HOST_DATA (32 bytes) or MRCONFIGID (48) of this guest: from the chip's report, or from the TDX module."""
    if tee == TDX and not emulated_chip:
        return own_mrconfigid()
    sources = emulated(tee) if emulated_chip else hardware(tee)
    return first_present(sources, os.urandom(REPORT_DATA_BYTES)).binding


def hardware(tee: str) -> tuple[Source, ...]:
    """The kernel's interfaces, best first."""
    return (configfs_quote, tdx_guest_quote) if tee == TDX else (configfs_report, sev_guest_report)


def emulated(tee: str) -> tuple[Source, ...]:
    """The emulated chip's port and nothing else."""
    return (emulated_quote,) if tee == TDX else (emulated_report,)

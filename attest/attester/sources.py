"""Where the guest's evidence comes from, and the choice between the places.

On hardware: configfs-tsm first, ``/dev/sev-guest`` next. The emulated chip is asked only when the measured command
line says ``cvm.evidence=emulated``, and then nothing else is: the two are never mixed, so no host can swap real
evidence for emulated evidence, or the other way round, without changing the launch digest.
"""

from __future__ import annotations

from collections.abc import Callable

from attest.attester.configfs_tsm import configfs_report
from attest.attester.emulated import emulated_report
from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import MAX_CERTIFICATES, RawEvidence, SourceAbsent
from attest.attester.sev_guest import sev_guest_report

REPORT_DATA_BYTES = 64
REPORT_DATA_AT = 0x50


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
    got = evidence.report[REPORT_DATA_AT : REPORT_DATA_AT + REPORT_DATA_BYTES]
    if got != report_data:
        raise EvidenceUnavailable(
            f"{evidence.source}: the report is about other report data, {got[:8].hex()}…, want {report_data[:8].hex()}…"
        )
    if len(evidence.certificates) > MAX_CERTIFICATES:
        raise EvidenceUnavailable(
            f"{evidence.source}: certificate table of {len(evidence.certificates)} bytes is too long"
        )
    return evidence


def hardware() -> tuple[Source, ...]:
    """The kernel's interfaces, best first."""
    return configfs_report, sev_guest_report


def emulated() -> tuple[Source, ...]:
    """The emulated chip's port and nothing else."""
    return (emulated_report,)

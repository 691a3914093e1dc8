"""Every rule of an appraisal, one small function each. Each returns a :class:`Check`; none of them decides.

``clause`` says which rule of the policy was applied and why it exists, so that a decision explains itself years later.
The rules of a kind of evidence, and the comparisons that are not made, stand in :mod:`policy.snp_checks`,
:mod:`policy.tdx_checks` and :mod:`policy.sgx_checks`.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from policy.check import FAIL, IGNORED, PASS, Appraisal, Check
from policy.check_measured import stage_warnings
from policy.check_tcb import tcb_warnings
from policy.check_trust import no_table
from policy.claims import SgxClaims, SnpClaims, TdxClaims, VerifiedClaims, chip_name
from policy.document import PolicyDocument
from policy.reference_set import ReferenceSet
from policy.results import Results
from policy.sgx_checks import SGX, SGX_CHECKS
from policy.snp_checks import SNP, SNP_CHECKS
from policy.stage import NOBODY, Guest
from policy.tdx_checks import TDX, TDX_CHECKS

LAUNCH_CHECKS = frozenset({"measurement", *(f"tdx.rtmr{index}" for index in range(4))})
"""Checks that compare with reference values; without any they can only say that there is none."""


class Judged(NamedTuple):
    """Results of all rules, and what will not be accepted for ever."""

    results: Results
    warnings: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every check, in order."""
        return self.results.checks


def run_checks(
    claims: VerifiedClaims, document: PolicyDocument, references: ReferenceSet, now: datetime, vm: str | None = None
) -> Judged:
    """Every rule for this kind of evidence, in order; one failed check where the policy has no table for it."""
    tee, platform = claims.tee, claims.platform
    # Only the stage of a reference value asks who the guest is.
    guest = Guest(chip_name(tee), vm) if references.staged else NOBODY
    if isinstance(tee, SnpClaims) and document.snp is not None:
        snp = Appraisal(tee, document.snp, platform, document, references, now, guest)
        return Judged(SNP.run(snp), stage_warnings(snp, tee.measurement))
    if isinstance(tee, TdxClaims) and document.tdx is not None:
        td = Appraisal(tee, document.tdx, platform, document, references, now, guest)
        return Judged(TDX.run(td), (*tcb_warnings(td), *stage_warnings(td, tee.mrtd)))
    if isinstance(tee, SgxClaims) and document.sgx is not None:
        enclave = Appraisal(tee, document.sgx, platform, document, references, now)
        return Judged(SGX.run(enclave), tcb_warnings(enclave))
    return Judged(Results.of([no_table(tee, platform, document)]))


__all__ = [
    "FAIL", "IGNORED", "LAUNCH_CHECKS", "PASS", "SGX_CHECKS", "SNP_CHECKS", "TDX_CHECKS", "Appraisal", "Check",
    "Judged", "Results", "run_checks",
]  # fmt: skip

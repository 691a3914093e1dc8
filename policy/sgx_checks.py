"""Every rule about an SGX quote, in the order of a decision, and the comparisons that are not made.

Every field of a report body is compared by a rule below or by the verifier, or named here. Not made, beside those of
:mod:`policy.tdx_checks` that hold for any quote: CPUSVN, of the report and of the certificate, which the sixteen
components of the certificate say one by one; ``[measurement]``, which is about launches of virtual machines: an enclave
is named in ``[sgx]``.
"""

from __future__ import annotations

from policy import check_enclave as enclave
from policy import check_intel as intel
from policy import check_tcb as tcb
from policy.check import SgxRule
from policy.check_trust import root
from policy.claims import PckClaims, QeClaims, SgxClaims
from policy.remember import Remembered
from policy.sgx_rules import SgxRules

SGX_CHECKS: tuple[SgxRule, ...] = (
    root,
    intel.quote_version,
    *tcb.TCB_RULES,
    *intel.PLATFORM_RULES,
    *enclave.ENCLAVE_RULES,
    intel.report_data,
)
"""Every rule, in the order in which decisions list them. All of them always run."""

SGX = Remembered[SgxClaims, SgxRules](
    SgxClaims,
    SGX_CHECKS,
    each_time=(*tcb.TIMED_RULES, intel.ppid, intel.piid, enclave.configid, intel.report_data),
    blank={
        "configid": b"",
        "report_data": b"",
        "pck.ppid": b"",
        "pck.piid": None,
        "qe.user_data": b"",
    },
    parts={"pck": PckClaims, "qe": QeClaims},
)
"""The rules at work; ``blank`` is what differs from enclave to enclave, or from machine to machine of one kind."""

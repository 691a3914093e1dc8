"""Every rule about a TD quote, in the order of a decision, and the comparisons that are not made.

Every field of a quote is compared by a rule below or by the verifier, or named here. Comparisons deliberately *not*
made, beside those of :mod:`policy.snp_checks` that hold for any report:

* CPUSVN of the PCK certificate: the sixteen components beside it say the same, one by one.
* MRSIGNER of the quoting enclave: the verifier compares it with the QE identity that Intel signed.
* User data of the quote's header: the host chooses it, the signature covers it, and it names nothing. Machines are
  known by PPID and platform instance, which Intel certified (gramine-sealing-key-provider#25 used the header).
* CRL numbers: each CA counts its own; whether a list is current is ``revocation``.
* TEE_TCB_SVN as one number, or across major versions of the module: SVNs count anew in each version.
* ``init_tee_fmspc`` of body 1.5-extended with the certificate's FMSPC: it encodes a model, not those six bytes.
* Names of events as facts: a log's words are not signed, its digests are.
* MRTD alone: it holds the firmware and nothing that runs later; the registers have rules of their own.
* Azure's vTPM: with a paravisor the RTMRs are zero and what runs is in a TPM quote, which is verified, not appraised.
"""

from __future__ import annotations

from policy import check_eventlog as eventlog
from policy import check_intel as intel
from policy import check_registers as registers
from policy import check_tcb as tcb
from policy import check_td as td
from policy.check import TdxRule
from policy.check_trust import root
from policy.claims import PckClaims, QeClaims, TdxClaims
from policy.remember import Remembered
from policy.tdx_rules import TdxRules
from policy.vocab import LaunchDigest

TDX_CHECKS: tuple[TdxRule, ...] = (
    root,
    intel.quote_version,
    td.body,
    *tcb.TCB_RULES,
    *intel.PLATFORM_RULES,
    td.mrseam,
    td.mrsignerseam,
    td.seamattributes,
    td.tee_tcb_svn,
    td.tee_tcb_svn2,
    td.attributes,
    *td.ATTRIBUTE_RULES,
    td.untrusted,
    td.undefined_attributes,
    td.xfam_allowed,
    td.xfam_required,
    td.mrservicetd,
    *td.EXTENDED_RULES,
    td.unknown_extended,
    *td.HOST_RULES,
    intel.report_data,
    *eventlog.EVENTLOG_RULES,
    *registers.REGISTER_RULES,
    registers.measurement,
)
"""Every rule, in the order in which decisions list them. All of them always run."""

TDX = Remembered[TdxClaims, TdxRules](
    TdxClaims,
    TDX_CHECKS,
    each_time=(
        *tcb.TIMED_RULES,
        intel.ppid,
        intel.piid,
        *td.EXTENDED_RULES,
        td.unknown_extended,
        *td.HOST_RULES,
        intel.report_data,
        *eventlog.EVENTLOG_RULES,
        *registers.REGISTER_RULES,
        registers.measurement,
    ),
    blank={
        "mrtd": LaunchDigest(bytes(48)),
        "mrconfigid": b"",
        "mrowner": b"",
        "mrownerconfig": b"",
        "rtmrs": (b"", b"", b"", b""),
        "report_data": b"",
        "extended": (),
        "events": None,
        "pck.ppid": b"",
        "pck.piid": None,
        "qe.user_data": b"",
    },
    parts={"pck": PckClaims, "qe": QeClaims},
)
"""The rules at work; ``blank`` is what differs from guest to guest, or from machine to machine of one kind."""

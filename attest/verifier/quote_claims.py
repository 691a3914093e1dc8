"""The claims of a quote that verified."""

from __future__ import annotations

from attest.evidence.quote import Quote
from attest.evidence.sgx_report import SgxReportBody
from attest.evidence.td_report import TdReportBody
from attest.verifier.quote_judgement import Judged
from attest.verifier.quote_platform import QuotingPlatform
from policy.claims import INTEL_ROOT, QeClaims, SgxClaims, TdxClaims
from policy.measured import MeasuredEvent
from policy.vocab import LaunchDigest, Platform


def claims_of(
    quote: Quote, platform: QuotingPlatform, judged: Judged, events: tuple[MeasuredEvent, ...] | None
) -> tuple[Platform, TdxClaims | SgxClaims]:
    """What runs, and its claims; ``events`` are those of the log that replays, where one came."""
    root = platform.chain.root_name
    qe = QeClaims(platform.qe.isvsvn, platform.qe.mrsigner, quote.user_data)
    if isinstance(quote.body, TdReportBody):
        tee: TdxClaims | SgxClaims = _tdx_claims(quote, quote.body, platform, judged, qe, events)
        kind = Platform.TDX if root == INTEL_ROOT else Platform.EMULATED_TDX
    else:
        tee = _sgx_claims(quote, quote.body, platform, judged, qe)
        kind = Platform.SGX if root == INTEL_ROOT else Platform.EMULATED_SGX
    return kind, tee


def _tdx_claims(
    quote: Quote, body: TdReportBody, platform: QuotingPlatform, judged: Judged, qe: QeClaims,
    events: tuple[MeasuredEvent, ...] | None,
) -> TdxClaims:  # fmt: skip
    # By position, in the order of the fields: every verdict makes one.
    return TdxClaims(
        quote.version, quote.body_type, body.tee_tcb_svn, body.mrseam, body.mrsignerseam, body.seamattributes,
        body.td_attributes, body.xfam, LaunchDigest(body.mrtd), body.mrconfigid, body.mrowner, body.mrownerconfig,
        body.rtmrs, body.report_data, body.tee_tcb_svn2, body.mrservicetd, body.extended, platform.pck, judged.tcb, qe,
        platform.chain.root_name, judged.revocation, events,
    )  # fmt: skip


def _sgx_claims(
    quote: Quote, body: SgxReportBody, platform: QuotingPlatform, judged: Judged, qe: QeClaims
) -> SgxClaims:
    return SgxClaims(
        version=quote.version,
        cpusvn=body.cpusvn,
        miscselect=body.miscselect,
        attributes=body.attributes,
        xfrm=body.xfrm,
        mrenclave=body.mrenclave,
        mrsigner=body.mrsigner,
        isvextprodid=body.isvextprodid,
        isvprodid=body.isvprodid,
        isvsvn=body.isvsvn,
        isvfamilyid=body.isvfamilyid,
        configid=body.configid,
        configsvn=body.configsvn,
        report_data=body.report_data,
        pck=platform.pck,
        tcb=judged.tcb,
        qe=qe,
        root=platform.chain.root_name,
        revocation=judged.revocation,
    )

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
    return TdxClaims(
        version=quote.version,
        body=quote.body_type,
        tee_tcb_svn=body.tee_tcb_svn,
        mrseam=body.mrseam,
        mrsignerseam=body.mrsignerseam,
        seamattributes=body.seamattributes,
        td_attributes=body.td_attributes,
        xfam=body.xfam,
        mrtd=LaunchDigest(body.mrtd),
        mrconfigid=body.mrconfigid,
        mrowner=body.mrowner,
        mrownerconfig=body.mrownerconfig,
        rtmrs=body.rtmrs,
        report_data=body.report_data,
        tee_tcb_svn2=body.tee_tcb_svn2,
        mrservicetd=body.mrservicetd,
        extended=body.extended,
        pck=platform.pck,
        tcb=judged.tcb,
        qe=qe,
        root=platform.chain.root_name,
        revocation=judged.revocation,
        events=events,
    )


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

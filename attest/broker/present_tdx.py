"""Evidence of trust domains in the service: a quote, the log that explains its registers, Intel's collateral.

The log is optional here. Where rules look at events, a policy refuses a guest that sent none; a log that was sent and
does not replay is refused always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from attest.broker.collateral import ServiceCollateral
from attest.broker.presented import Blob, Memory, Put
from attest.endorsement.intel import INTEL_ROOT_KEY, IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.eventlog import CCEL, EventLog, parse_event_log
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, IntelRole
from attest.evidence.intel_json import TD_QE, TDX, QeIdentity, TcbInfo, qe_identity_of, tcb_info_of
from attest.evidence.quote import Quote, parse_quote
from attest.evidence.td_report import TdReportBody
from attest.evidence.tdx_json import decode_tdx_json
from policy.claims import INTEL_ROOT, VerifiedClaims
from policy.document import PolicyDocument

_TEST = "test:"


@dataclass(frozen=True, slots=True)
class PresentedTd:
    """``body`` is the quote's, ``event_log`` ``None`` where none was sent; ``not_fetched`` says why collateral that was
    asked for did not come.
    """

    quote: Quote
    body: TdReportBody
    event_log: EventLog | None = None
    collateral: IntelCollateral = field(default_factory=IntelCollateral)
    list_too_old: bool = False
    not_fetched: tuple[str, ...] = ()

    @property
    def launch_digest(self) -> bytes:
        """MRTD."""
        return self.body.mrtd

    def verify(self, report_data: bytes, document: PolicyDocument, now: datetime, memory: Memory) -> VerifiedClaims:
        """See :meth:`attest.verifier.quote.QuoteVerifier.verify`."""
        verifier = memory.quote_verifier(intel_anchors_of(document))
        unlogged = frozenset[int]() if document.tdx is None else document.tdx.unlogged_registers
        return verifier.verify(
            self.quote,
            self.collateral,
            now=now,
            expected_report_data=report_data,
            event_log=self.event_log,
            unlogged_registers=unlogged,
        )

    def keep(self, put: Put) -> Mapping[str, Any]:
        """Quote, log (without the filling of its memory area) and every piece of collateral."""
        pool = relevant(self.quote, self.collateral)
        return {
            "quote": put(self.quote.raw),
            "event_log": None if self.event_log is None else put(self.event_log.raw),
            "certificates": [put(item.der) for item in pool.certificates],
            "crls": [put(item.der) for item in pool.crls],
            "tcb_infos": [_keep_signed(put, item) for item in pool.tcb_infos],
            "qe_identities": [_keep_signed(put, item) for item in pool.qe_identities],
            "crl_too_old": self.list_too_old,
            "not_fetched": list(self.not_fetched),
        }


def present_tdx(
    evidence: object, collateral: ServiceCollateral, document: PolicyDocument, report_data: bytes, now: datetime
) -> PresentedTd:
    """From the request's JSON. Raises EvidenceMalformed, and CollateralUnreadable for the operator's folder."""
    decoded = decode_tdx_json(evidence)
    body = _td_body(decoded.quote)
    log = None if decoded.event_log is None else parse_event_log(decoded.event_log, CCEL)
    found = collateral.intel.for_quote(decoded.quote, intel_anchors_of(document), document, report_data, now)
    return PresentedTd(decoded.quote, body, log, found.collateral, found.lists_too_old, found.problems)


def restore_tdx(kept: Mapping[str, Any], blob: Blob) -> PresentedTd:
    """From what :meth:`PresentedTd.keep` left in a record."""
    quote = parse_quote(blob(kept["quote"]))
    log = None if kept["event_log"] is None else parse_event_log(blob(kept["event_log"]), CCEL)
    pool = IntelCollateral.of(
        [IntelCertificate.parse(blob(digest)) for digest in kept["certificates"]],
        [IntelCrl.parse(blob(digest)) for digest in kept["crls"]],
        [tcb_info_of(blob(item["signed"]), bytes.fromhex(item["signature"])) for item in kept["tcb_infos"]],
        [qe_identity_of(blob(item["signed"]), bytes.fromhex(item["signature"])) for item in kept["qe_identities"]],
    )
    return PresentedTd(quote, _td_body(quote), log, pool, kept.get("crl_too_old", False))


def intel_anchors_of(document: PolicyDocument) -> IntelAnchors:
    """The trusted keys a policy names: Intel's, and test roots by their digest; a chain's own root has to have one."""
    keys = {INTEL_ROOT_KEY: INTEL_ROOT} if INTEL_ROOT in document.roots else {}
    for root in document.roots:
        if root.startswith(_TEST):
            keys[bytes.fromhex(root.removeprefix(_TEST))] = root
    return IntelAnchors(keys)


def relevant(quote: Quote, pool: IntelCollateral) -> IntelCollateral:
    """The part of ``pool`` that can matter for ``quote``: what an audit record has to keep."""
    try:
        chain = [IntelCertificate.parse(der) for der in quote.certification.certificates()]
    except EvidenceMalformed:
        chain = []
    leaves = chain or pool.by_role(IntelRole.PCK)  # of a quote that only names its key, any may be the one
    platforms = {certificate.sgx.fmspc for certificate in leaves if certificate.sgx is not None}
    return IntelCollateral(
        certificates=pool.certificates,
        crls=pool.crls,
        tcb_infos=tuple(item for item in pool.tcb_infos if item.id == TDX and item.fmspc in platforms),
        qe_identities=tuple(item for item in pool.qe_identities if item.id == TD_QE),
    )


def _td_body(quote: Quote) -> TdReportBody:
    if not isinstance(quote.body, TdReportBody):
        raise EvidenceMalformed("tdx evidence: the quote of an SGX enclave, want a TD's")
    return quote.body


def _keep_signed(put: Put, item: TcbInfo | QeIdentity) -> dict[str, Any]:
    return {"signed": put(item.signed), "signature": item.signature.hex()}

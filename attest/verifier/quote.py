"""Is this quote genuine? Every check in order, each with its number; acceptance is decided elsewhere (policy).

     1 format         versions 3 to 5 and every length (the parser)
     2 qe-vendor      the header names Intel's quoting enclaves
     3 certification  a PCK certificate, its authority and the root came along (certification data type 5), or are at
                      hand (types 1 to 4), see attest.endorsement.pck
     4 root           } the chain, see attest.endorsement.intel: pinned root key, links, names, roles, constraints;
     5 intermediate   }
     6 leaf           }
     7 validity       } all three certificates at `now`
     8 revocation     } against the lists of root and authority; `stale` and `not-checked` are claims, not failures
     9 qe-report      the PCK key signed the QE report, as received
    10 qe-binding     the QE's report data is SHA-256(attestation key || authentication data), then 32 zeros
    11 signature      the attestation key signed header and body, as received
    12 collateral     TCB info and QE identity at hand, the newest of each that Intel's TCB signer signed, whose chain
                      holds and ends in the quote's own root; current at `now`
    13 qe-identity    the QE report is that of the identity: MISCSELECT and ATTRIBUTES under their masks, MRSIGNER,
                      ISVPRODID, and not debuggable
    14 platform       TCB info is for the FMSPC and PCE id of the PCK certificate
    15 module         (TDX) MRSIGNERSEAM and SEAMATTRIBUTES are those of the TDX module of this version
    16 tcb            a TCB level is reached by platform, module and QE, and none is Revoked
    17 binding        REPORTDATA equals the expected 64 bytes, where the caller expects any
    18 event-log      the log that came along replays to the signed RTMRs, where one came

Deliberately *not* checked here, because genuine quotes differ and a policy decides: debug and other TD attributes,
XFAM, a service TD, measurements, the TCB status (out of date is a claim), whether TCB info and QE identity are of the
same evaluation number, QE and PCE SVN of the header (zero in every quote of version 4 and 5).

What depends on the platform and the collateral alone is remembered together with the time span in which the judgement
stands: the dates of everything it rests on. Within it another quote of that platform costs one P-256 verification.
Source: Intel, *SGX/TDX DCAP Quote Verification Library*; Intel PCS API v4; RFC 9334, section 8.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from attest.endorsement.errors import VerificationFailed
from attest.endorsement.intel import IntelAnchors, IntelCache
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.certification import PCK_CHAIN
from attest.evidence.eventlog import EventLog
from attest.evidence.quote import Quote
from attest.evidence.td_report import TdReportBody
from attest.verifier.eventlog import verify_event_log
from attest.verifier.quote_claims import claims_of
from attest.verifier.quote_judgement import Judged, Judgement
from attest.verifier.quote_platform import QuotingPlatform, check_vendor, platform_of
from policy.claims import VerifiedClaims, verifier_seal
from policy.measured import MeasuredEvent

_K = TypeVar("_K")
_V = TypeVar("_V")
_Material = tuple[int, bytes, bytes, bytes, bytes, bytes]
_REPORT_DATA_SIZE = 64
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class QuoteVerifier:
    """Trust anchors and a memory. One instance serves any number of quotes and threads."""

    anchors: IntelAnchors
    cache: IntelCache = field(default_factory=IntelCache)
    _platforms: OrderedDict[_Material, QuotingPlatform] = field(default_factory=OrderedDict, repr=False)
    _judged: OrderedDict[tuple[int, bytes, bytes], Judged] = field(default_factory=OrderedDict, repr=False)

    def verify(
        self,
        quote: Quote,
        collateral: IntelCollateral,
        *,
        now: datetime,
        expected_report_data: bytes | None,
        event_log: EventLog | None = None,
        unlogged_registers: frozenset[int] = frozenset(),
    ) -> VerifiedClaims:
        """The claims of a genuine quote.

        ``now`` is aware; ``expected_report_data`` is 64 bytes, or ``None`` for a caller that has nothing to bind to.
        ``unlogged_registers``: RTMRs that somebody decided may be extended without being logged. Raises
        :class:`VerificationFailed` with its step, ``EndorsementMissing`` and ``CollateralExpired`` (nothing current at
        hand), :class:`EvidenceUnsupported`, :class:`EvidenceMalformed`, or ``TypeError``/``ValueError`` for misuse.
        """
        _check_arguments(now, expected_report_data)
        platform = self._platform(quote, collateral)
        if not platform.key.verifies(quote.signature, quote.signed_sha256):
            raise VerificationFailed("signature", "quote: the signature does not verify under the attestation key")
        judged = self._judge(quote, platform, collateral, now)
        if expected_report_data is not None and not hmac.compare_digest(quote.body.report_data, expected_report_data):
            raise VerificationFailed(
                "binding",
                f"quote: report_data is {quote.body.report_data.hex()}, want {expected_report_data.hex()}",
                hint="the quote is an answer to another challenge, or was made for another key",
            )
        events = _events(quote, event_log, unlogged_registers)
        return VerifiedClaims(*claims_of(quote, platform, judged, events), verifier_seal())

    def _platform(self, quote: Quote, pool: IntelCollateral) -> QuotingPlatform:
        """Steps 2 to 6, 9 and 10, remembered by all bytes they look at; not where they look at the pool, too."""
        # The parser hands out the same objects for the same bytes, and those know their hash: no digest of 4 KB here.
        certification = quote.certification
        material = (
            certification.type, certification.data, quote.attestation_key, quote.qe_report.raw,
            quote.qe_report_signature, quote.qe_auth_data,
        )  # fmt: skip
        known = self._platforms.get(material)
        check_vendor(quote)
        if known is not None and certification.type == PCK_CHAIN:
            return known
        found = platform_of(quote, pool, self.anchors, self.cache)
        return _keep(self._platforms, material, found) if certification.type == PCK_CHAIN else found

    def _judge(self, quote: Quote, platform: QuotingPlatform, pool: IntelCollateral, now: datetime) -> Judged:
        """Steps 7, 8 and 12 to 16, remembered for the span of time in which nothing they rest on changes."""
        body = quote.body
        seam = b"sgx"
        if isinstance(body, TdReportBody):
            # TEE_TCB_SVN to SEAMATTRIBUTES are its first 120 bytes.
            seam = body.raw[:120] if body.tee_tcb_svn2 is None else body.raw[:120] + body.tee_tcb_svn2
        key = (id(pool), platform.judged_by, seam)
        known = self._judged.get(key)
        if known is not None and known.pool is pool and known.since < now < known.until:
            return known
        return _keep(self._judged, key, Judgement(self.anchors, self.cache, pool, now).of(quote, platform))


def _check_arguments(now: datetime, expected_report_data: bytes | None) -> None:
    if now.tzinfo is None:
        raise TypeError("verify wants an aware time")
    if expected_report_data is not None and len(expected_report_data) != _REPORT_DATA_SIZE:
        raise ValueError(f"expected REPORTDATA has {len(expected_report_data)} bytes, want {_REPORT_DATA_SIZE}")


def _events(quote: Quote, log: EventLog | None, unlogged_registers: frozenset[int]) -> tuple[MeasuredEvent, ...] | None:
    if log is None:
        return None
    if not isinstance(quote.body, TdReportBody):
        raise VerificationFailed("event-log", "event log: came with an SGX quote, which has no registers")
    return verify_event_log(log, quote.body.rtmrs, unlogged_registers=unlogged_registers)


def _keep(remembered: OrderedDict[_K, _V], key: _K, value: _V) -> _V:
    remembered[key] = value
    if len(remembered) > _LIMIT:
        remembered.popitem(last=False)
    return value

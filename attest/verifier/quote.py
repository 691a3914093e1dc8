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
    12 collateral     TCB info and QE identity at hand, signed by Intel's TCB signer whose chain holds, current at `now`
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

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from attest.endorsement.crl import GOOD, NOT_CHECKED, STALE
from attest.endorsement.errors import CollateralExpired, VerificationFailed
from attest.endorsement.intel import (
    IntelAnchors,
    IntelCache,
    IntelChain,
    Revocation,
    check_dates,
    raw_signature_verifies,
    revocation,
    tcb_signing_chains,
)
from attest.endorsement.intel_pool import IntelCollateral
from attest.endorsement.p256 import Verifies, fastest
from attest.endorsement.pck import platform_chain
from attest.endorsement.tcb import TcbResult, evaluate, module_of
from attest.evidence.certification import PCK_CHAIN
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.eventlog import EventLog
from attest.evidence.intel_certificate import PCK_AUTHORITIES, IntelRole
from attest.evidence.intel_json import QE, SGX, TD_QE, TDX, QeIdentity, TcbInfo
from attest.evidence.quote import INTEL_QE_VENDOR, Quote
from attest.evidence.sgx_extension import SgxExtension
from attest.evidence.sgx_report import SgxReportBody
from attest.evidence.td_report import TdReportBody
from attest.verifier.eventlog import verify_event_log
from policy.claims import (
    INTEL_ROOT,
    PckClaims,
    QeClaims,
    SgxClaims,
    TcbClaims,
    TdxClaims,
    VerifiedClaims,
    verifier_seal,
)
from policy.measured import MeasuredEvent
from policy.vocab import LaunchDigest, Platform

_K = TypeVar("_K")
_V = TypeVar("_V")
_Material = tuple[int, bytes, bytes, bytes, bytes, bytes]
_REPORT_DATA_SIZE = 64
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class _Platform:
    """The machine that vouches for an attestation key: certificate chain, key, QE. No judgement about time."""

    chain: IntelChain
    sgx: SgxExtension
    signed_by_key: Verifies
    qe: SgxReportBody
    pck: PckClaims


@dataclass(frozen=True, slots=True)
class _Judged:
    """What collateral says of a platform, right between ``since`` and ``until``. ``pool`` keeps its id alive."""

    pool: IntelCollateral
    tcb: TcbClaims
    revocation: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class QuoteVerifier:
    """Trust anchors and a memory. One instance serves any number of quotes and threads."""

    anchors: IntelAnchors
    cache: IntelCache = field(default_factory=IntelCache)
    _platforms: OrderedDict[_Material, _Platform] = field(default_factory=OrderedDict, repr=False)
    _judged: OrderedDict[tuple[int, bytes, bytes], _Judged] = field(default_factory=OrderedDict, repr=False)

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
        digest = quote.signed_sha256
        if not platform.signed_by_key(quote.signature, digest):
            raise VerificationFailed("signature", "quote: the signature does not verify under the attestation key")
        judged = self._judge(quote, platform, collateral, now)
        if expected_report_data is not None and not hmac.compare_digest(quote.body.report_data, expected_report_data):
            raise VerificationFailed(
                "binding",
                f"quote: report_data is {quote.body.report_data.hex()}, want {expected_report_data.hex()}",
                hint="the quote is an answer to another challenge, or was made for another key",
            )
        events = _events(quote, event_log, unlogged_registers)
        return VerifiedClaims(*_claims(quote, platform, judged, events), digest, verifier_seal())

    def _platform(self, quote: Quote, pool: IntelCollateral) -> _Platform:
        """Steps 2 to 6, 9 and 10, remembered by all bytes they look at; not where they look at the pool, too."""
        # The parser hands out the same objects for the same bytes, and those know their hash: no digest of 4 KB here.
        certification = quote.certification
        material = (
            certification.type, certification.data, quote.attestation_key, quote.qe_report.raw,
            quote.qe_report_signature, quote.qe_auth_data,
        )  # fmt: skip
        known = self._platforms.get(material)
        if quote.qe_vendor_id != INTEL_QE_VENDOR:
            raise VerificationFailed(
                "qe-vendor", f"quote: QE vendor {quote.qe_vendor_id.hex()}, want Intel's {INTEL_QE_VENDOR.hex()}"
            )
        if certification.type != PCK_CHAIN:
            return self._new_platform(quote, pool)
        return _keep(self._platforms, material, self._new_platform(quote, pool)) if known is None else known

    def _new_platform(self, quote: Quote, pool: IntelCollateral) -> _Platform:
        chain = platform_chain(quote, pool, self.anchors, self.cache)
        sgx = chain.leaf.sgx
        if sgx is None:
            raise TypeError("a PCK certificate without an SGX extension")
        if not raw_signature_verifies(chain.leaf.key, quote.qe_report_signature, quote.qe_report.raw):
            raise VerificationFailed("qe-report", "quote: the QE report's signature does not verify under the PCK key")
        bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
        if not hmac.compare_digest(quote.qe_report.report_data, bound):
            raise VerificationFailed(
                "qe-binding",
                f"quote: the QE vouches for {quote.qe_report.report_data.hex()}, the attestation key and its data give "
                f"{bound.hex()}",
            )
        ca = PCK_AUTHORITIES[chain.certificates[1].role]
        return _Platform(
            chain, sgx, fastest(_point(quote.attestation_key)), quote.qe_report, PckClaims(ca=ca, **sgx._asdict())
        )

    def _judge(self, quote: Quote, platform: _Platform, pool: IntelCollateral, now: datetime) -> _Judged:
        """Steps 7, 8 and 12 to 16, remembered for the span of time in which nothing they rest on changes."""
        leaf, body = platform.chain.leaf, quote.body
        seam = b"sgx"
        if isinstance(body, TdReportBody):
            # TEE_TCB_SVN to SEAMATTRIBUTES are its first 120 bytes.
            seam = body.raw[:120] + (body.tee_tcb_svn2 or b"")
        key = (id(pool), leaf.sha256 + platform.qe.raw, seam)
        known = self._judged.get(key)
        if known is not None and known.pool is pool and known.since < now < known.until:
            return known
        return _keep(self._judged, key, _Judgement(self, pool, now).of(quote, platform))


class _Judgement:
    """One judgement of a platform by a pool at a time."""

    def __init__(self, verifier: QuoteVerifier, pool: IntelCollateral, now: datetime) -> None:
        self._anchors, self._cache = verifier.anchors, verifier.cache
        self._pool = pool
        self._now = now

    def of(self, quote: Quote, platform: _Platform) -> _Judged:
        pool, now = self._pool, self._now
        check_dates(platform.chain, now)
        pck_state = revocation(platform.chain, pool.crls, now, self._cache)
        info = pool.tcb_info(TDX if quote.is_tdx else SGX, platform.sgx.fmspc, now)
        identity = pool.qe_identity(TD_QE if quote.is_tdx else QE, now)
        signers, signer_state = self._signers(info, identity)
        _check_qe(platform.qe, identity)
        _check_platform(platform.sgx, info)
        svns = _check_module(quote.body, info)
        result = evaluate(platform.sgx, svns, info, platform.qe.isvsvn, identity)
        states = (pck_state.state, signer_state.state)
        since, until = self._span(platform.chain, signers, info, identity)
        return _Judged(
            pool=pool,
            tcb=_tcb_claims(result, info, identity, (pck_state, signer_state)),
            revocation=next(state for state in (NOT_CHECKED, STALE, GOOD) if state in states),
            since=since,
            until=until,
        )

    def _signers(self, info: TcbInfo, identity: QeIdentity) -> tuple[list[IntelChain], Revocation]:
        """The TCB signers' chains that vouch for both, and what the lists say of them."""
        chains = tcb_signing_chains(self._pool, self._anchors, self._cache)
        used: list[IntelChain] = []
        for what, item in (("TCB info", info), ("QE identity", identity)):
            if self._now >= item.next_update:
                ended = f"{item.next_update:%Y-%m-%dT%H:%M:%SZ}"
                raise CollateralExpired(
                    f"collateral: {what} of {item.issued:%Y-%m-%d} was current until {ended}",
                    hint="attest collateral fetch, or --at a time at which it was current",
                )
            used.append(self._signer_of(what, item, chains))
        states = [revocation(chain, self._pool.crls, self._now, self._cache) for chain in used]
        worst = next(state for name in (NOT_CHECKED, STALE, GOOD) for state in states if state.state == name)
        return used, worst

    def _signer_of(self, what: str, item: TcbInfo | QeIdentity, chains: list[IntelChain]) -> IntelChain:
        signed = [
            chain for chain in chains if self._cache.signed_by(item.signed, item.sha256, item.signature, chain.leaf)
        ]
        if not signed:
            raise VerificationFailed("collateral", f"{what}: its signature verifies under no TCB signer supplied")
        failures = []
        for chain in signed:
            try:
                check_dates(chain, self._now)
            except VerificationFailed as exc:
                failures.append(exc)
                continue
            return chain
        raise CollateralExpired(
            f"collateral: {what}: {failures[0].message}", hint="supply Intel's current issuer chain"
        )

    def _span(
        self, chain: IntelChain, signers: Iterable[IntelChain], info: TcbInfo, identity: QeIdentity
    ) -> tuple[datetime, datetime]:
        """The time around ``now`` in which no date of anything at hand lies, so that the judgement stays the same."""
        moments = [info.issued, info.next_update, identity.issued, identity.next_update]
        moments += [item.issued for item in self._pool.tcb_infos]
        moments += [item.issued for item in self._pool.qe_identities]
        for crl in self._pool.crls:
            moments += [crl.this_update, crl.next_update]
        for certificate in (item for one in (chain, *signers) for item in one.certificates):
            moments += [certificate.not_before, certificate.not_after]
        # A certificate and a list are still good at their last second: the moment itself belongs to neither side.
        since = max((moment for moment in moments if moment <= self._now), default=self._now)
        until = min((moment for moment in moments if moment > self._now), default=self._now)
        return (self._now, self._now) if since == self._now else (since, until)


def _check_arguments(now: datetime, expected_report_data: bytes | None) -> None:
    if now.tzinfo is None:
        raise TypeError("verify wants an aware time")
    if expected_report_data is not None and len(expected_report_data) != _REPORT_DATA_SIZE:
        raise ValueError(f"expected REPORTDATA has {len(expected_report_data)} bytes, want {_REPORT_DATA_SIZE}")


def _point(key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + key)
    except ValueError:
        raise EvidenceMalformed("quote: the attestation key is no point of P-256") from None


def _check_qe(qe: SgxReportBody, identity: QeIdentity) -> None:
    """Step 13."""
    attributes = bytes(a & m for a, m in zip(qe.attributes_raw, identity.attributes_mask, strict=True))
    compared = (
        ("MISCSELECT", qe.miscselect & identity.miscselect_mask, identity.miscselect),
        ("ATTRIBUTES", attributes.hex(), identity.attributes.hex()),
        ("MRSIGNER", qe.mrsigner.hex(), identity.mrsigner.hex()),
        ("ISVPRODID", qe.isvprodid, identity.isvprodid),
        ("DEBUG", qe.attributes.debug, False),
    )
    for name, got, want in compared:
        if got != want:
            raise VerificationFailed("qe-identity", f"QE report: {name} is {got}, the QE identity wants {want}")


def _check_platform(sgx: SgxExtension, info: TcbInfo) -> None:
    """Step 14. The FMSPC chose the TCB info; compared all the same, because it is what the signature is about."""
    if (info.fmspc, info.pceid) != (sgx.fmspc, sgx.pceid):
        raise VerificationFailed(
            "platform",
            f"TCB info: for FMSPC {info.fmspc.hex()} PCE id {info.pceid.hex()}, the PCK certificate says "
            f"{sgx.fmspc.hex()} and {sgx.pceid.hex()}",
        )


def _check_module(body: TdReportBody | SgxReportBody, info: TcbInfo) -> tuple[bytes, ...]:
    """Step 15; returns the SVNs to evaluate: none for SGX, at launch, and (TD report 1.5) of the running module."""
    if isinstance(body, SgxReportBody):
        return ()
    module = module_of(info, body.tee_tcb_svn)
    if body.mrsignerseam != module.mrsigner:
        raise VerificationFailed(
            "module", f"quote: MRSIGNERSEAM is {body.mrsignerseam.hex()}, the TDX module's is {module.mrsigner.hex()}"
        )
    attributes = body.seamattributes.to_bytes(8, "little")
    if bytes(a & m for a, m in zip(attributes, module.mask, strict=True)) != module.attributes or any(attributes):
        raise VerificationFailed("module", f"quote: SEAMATTRIBUTES are {attributes.hex()}, want zero")
    return (body.tee_tcb_svn,) if body.tee_tcb_svn2 is None else (body.tee_tcb_svn, body.tee_tcb_svn2)


def _tcb_claims(result: TcbResult, info: TcbInfo, identity: QeIdentity, states: Iterable[Revocation]) -> TcbClaims:
    lists = {role: crl for state in states for role, crl in state.lists.items()}
    authority = next((crl for role, crl in lists.items() if role is not IntelRole.ROOT), None)
    root = lists.get(IntelRole.ROOT)
    return TcbClaims(
        status=result.status,
        platform=result.platform,
        module=result.module,
        qe=result.qe,
        running=result.running,
        tcb_date=result.date,
        behind_since=result.behind_since,
        advisory_ids=result.advisories,
        tcb_info_number=info.number,
        qe_identity_number=identity.number,
        issued=min(info.issued, identity.issued),
        expires=min(info.next_update, identity.next_update, *(crl.next_update for crl in lists.values())),
        pck_crl_number=None if authority is None else authority.number,
        root_crl_number=None if root is None else root.number,
    )


def _events(quote: Quote, log: EventLog | None, unlogged_registers: frozenset[int]) -> tuple[MeasuredEvent, ...] | None:
    if log is None:
        return None
    if not isinstance(quote.body, TdReportBody):
        raise VerificationFailed("event-log", "event log: came with an SGX quote, which has no registers")
    return verify_event_log(log, quote.body.rtmrs, unlogged_registers=unlogged_registers)


def _claims(
    quote: Quote, platform: _Platform, judged: _Judged, events: tuple[MeasuredEvent, ...] | None
) -> tuple[Platform, TdxClaims | SgxClaims]:
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
    quote: Quote, body: TdReportBody, platform: _Platform, judged: _Judged, qe: QeClaims,
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


def _sgx_claims(quote: Quote, body: SgxReportBody, platform: _Platform, judged: _Judged, qe: QeClaims) -> SgxClaims:
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


def _keep(remembered: OrderedDict[_K, _V], key: _K, value: _V) -> _V:
    remembered[key] = value
    if len(remembered) > _LIMIT:
        remembered.popitem(last=False)
    return value

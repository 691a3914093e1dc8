"""Steps 7, 8 and 12 to 16 of :mod:`attest.verifier.quote`: what collateral says of a platform, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from attest.endorsement.crl import GOOD, NOT_CHECKED, STALE
from attest.endorsement.errors import CollateralExpired, VerificationFailed
from attest.endorsement.intel import (
    IntelAnchors,
    IntelCache,
    IntelChain,
    Revocation,
    check_dates,
    revocation,
    tcb_signing_chains,
)
from attest.endorsement.intel_pool import IntelCollateral
from attest.endorsement.tcb import TcbResult, evaluate, module_of
from attest.evidence.intel_certificate import IntelCertificate, IntelRole
from attest.evidence.intel_json import QE, SGX, TD_QE, TDX, QeIdentity, TcbInfo
from attest.evidence.quote import Quote
from attest.evidence.sgx_extension import SgxExtension
from attest.evidence.sgx_report import SgxReportBody
from attest.evidence.td_report import TdReportBody
from attest.verifier.quote_platform import QuotingPlatform
from policy.claims import TcbClaims

_Dated = TypeVar("_Dated", TcbInfo, QeIdentity)


@dataclass(frozen=True, slots=True)
class Judged:
    """What collateral says of a platform, right between ``since`` and ``until``. ``pool`` keeps its id alive."""

    pool: IntelCollateral
    tcb: TcbClaims
    revocation: str
    since: datetime
    until: datetime


class Judgement:
    """One judgement of a platform by a pool at a time."""

    def __init__(self, anchors: IntelAnchors, cache: IntelCache, pool: IntelCollateral, now: datetime) -> None:
        self._anchors, self._cache = anchors, cache
        self._pool = pool
        self._now = now

    def of(self, quote: Quote, platform: QuotingPlatform) -> Judged:
        """Raises as :meth:`attest.verifier.quote.QuoteVerifier.verify` does."""
        pool, now = self._pool, self._now
        check_dates(platform.chain, now)
        pck_state = revocation(platform.chain, pool.crls, now, self._cache)
        infos = pool.tcb_infos_of(TDX if quote.is_tdx else SGX, platform.sgx.fmspc, now)
        identities = pool.qe_identities_of(TD_QE if quote.is_tdx else QE, now)
        chains = self._signing_chains(platform.chain.root)
        info, info_signer = self._signed("TCB info", infos, chains)
        identity, identity_signer = self._signed("QE identity", identities, chains)
        signers = [info_signer] if identity_signer is info_signer else [info_signer, identity_signer]
        signer_state = self._worst(signers)
        _check_qe(platform.qe, identity)
        _check_platform(platform.sgx, info)
        svns = _check_module(quote.body, info)
        result = evaluate(platform.sgx, svns, info, platform.qe.isvsvn, identity)
        states = (pck_state.state, signer_state.state)
        since, until = self._span(platform.chain, signers, info, identity)
        return Judged(
            pool=pool,
            tcb=_tcb_claims(result, info, identity, (pck_state, signer_state)),
            revocation=next(state for state in (NOT_CHECKED, STALE, GOOD) if state in states),
            since=since,
            until=until,
        )

    def _signing_chains(self, root: IntelCertificate) -> list[IntelChain]:
        """Those that end in the root of the quote: another root that is trusted, too, has its own platforms only."""
        chains = tcb_signing_chains(self._pool, self._anchors, self._cache)
        return [chain for chain in chains if chain.root.spki_sha256 == root.spki_sha256]

    def _signed(self, what: str, newest_first: list[_Dated], chains: list[IntelChain]) -> tuple[_Dated, IntelChain]:
        """The newest that a TCB signer vouches for, and the signer's chain; both are current."""
        for item in newest_first:
            signed = [
                chain for chain in chains if self._cache.signed_by(item.signed, item.sha256, item.signature, chain.leaf)
            ]
            if signed:
                return item, self._current(what, item, signed)
        raise VerificationFailed(
            "collateral", f"{what}: its signature verifies under no TCB signer supplied whose root is the quote's"
        )

    def _current(self, what: str, item: TcbInfo | QeIdentity, signed: list[IntelChain]) -> IntelChain:
        if self._now >= item.next_update:
            ended = f"{item.next_update:%Y-%m-%dT%H:%M:%SZ}"
            raise CollateralExpired(
                f"collateral: {what} of {item.issued:%Y-%m-%d} was current until {ended}",
                hint="attest collateral fetch, or --at a time at which it was current",
            )
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

    def _worst(self, chains: list[IntelChain]) -> Revocation:
        states = [revocation(chain, self._pool.crls, self._now, self._cache) for chain in chains]
        return next(state for name in (NOT_CHECKED, STALE, GOOD) for state in states if state.state == name)

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

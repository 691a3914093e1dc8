"""Quotes for ``attest evidence verify``: Intel's collateral from folders, its roots, and one quote against both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from attest.cli.evidence_file import read_file
from attest.collateral.folder import Warn, files_below, read_small
from attest.collateral.intel_folder import intel_collateral_of
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.eventlog import parse_event_log
from attest.evidence.intel_certificate import IntelRole
from attest.evidence.quote import Quote
from attest.evidence.recognise import QuoteEvidence
from attest.verifier.quote import QuoteVerifier
from attest.verifier.vtpm import verify_vtpm
from policy.claims import SgxClaims, SnpClaims, TcbClaims, VerifiedClaims
from policy.document import PolicyDocument

_NONCE_SPACE = 64


FetchForQuote = Callable[[Quote, IntelCollateral], IntelCollateral]
"""What is at hand, and what can be had from elsewhere for a quote. Raises CollateralUnavailable."""


@dataclass(frozen=True, slots=True)
class QuoteJudge:
    """One collateral and one memory for any number of quotes. ``fetch`` is ``None`` offline."""

    pool: IntelCollateral = field(default_factory=IntelCollateral)
    verifier: QuoteVerifier = field(default_factory=lambda: QuoteVerifier(IntelAnchors.intel()))
    fetch: FetchForQuote | None = None

    def verify(
        self,
        evidence: QuoteEvidence,
        document: PolicyDocument,
        *,
        now: datetime,
        nonce: bytes | None,
        report_data: bytes | None,
    ) -> VerifiedClaims:
        """The claims, and what hangs on the quote: its event log, a TPM quote.

        Under a paravisor REPORTDATA is the hash of its variable data and the nonce is in the TPM's quote; a caller's
        own expectation of REPORTDATA must agree with that hash, it does not replace it.
        """
        expected = report_data if nonce is None else nonce.ljust(_NONCE_SPACE, b"\0")
        if evidence.vtpm is None:
            return self._bound(evidence, document, now, expected)
        claims = self._bound(evidence, document, now, evidence.vtpm.hcl.expected_report_data)
        if report_data is not None:
            claims = self._bound(evidence, document, now, report_data)
        verify_vtpm(evidence.vtpm, expected_challenge=nonce)
        return claims

    def _bound(
        self, evidence: QuoteEvidence, document: PolicyDocument, now: datetime, expected: bytes | None
    ) -> VerifiedClaims:
        return self.verifier.verify(
            evidence.quote,
            self.pool if self.fetch is None else self.fetch(evidence.quote, self.pool),
            now=now,
            expected_report_data=expected,
            event_log=None if evidence.event_log is None else parse_event_log(evidence.event_log),
            unlogged_registers=frozenset() if document.tdx is None else document.tdx.unlogged_registers,
        )


def tcb_of(claims: VerifiedClaims | None) -> TcbClaims | None:
    """Intel's judgement of a platform; ``None`` for AMD's, and where nothing was verified."""
    return None if claims is None or isinstance(claims.tee, SnpClaims) else claims.tee.tcb


def genuine_quote_message(claims: VerifiedClaims) -> str:
    """One line for people."""
    tcb = tcb_of(claims)
    status = "" if tcb is None else f", TCB {tcb.status.value}"
    kind = "SGX quote" if isinstance(claims.tee, SgxClaims) else "TDX quote"
    root = "Intel's root" if not claims.emulated else f"{claims.tee.root}, which is not Intel's: EMULATED hardware"
    return f"genuine {kind} under {root}{status}"


def intel_collateral_below(folders: Iterable[Path], warn: Warn) -> IntelCollateral:
    """All of Intel's things in these folders (or files), told apart by content; what is damaged goes to ``warn``.

    Raises :class:`attest.collateral.errors.CollateralUnreadable` for a folder that cannot be read.
    """
    found = []
    for folder in folders:
        for path in files_below(folder):
            piece = intel_collateral_of(read_small(path))
            found.append(piece)
            for problem in piece.damaged:
                warn(f"{path}: {problem.message}")
    return IntelCollateral.of(
        [item for piece in found for item in piece.certificates],
        [item for piece in found for item in piece.crls],
        [item for piece in found for item in piece.tcb_infos],
        [item for piece in found for item in piece.qe_identities],
        [item for piece in found for item in piece.damaged],
    )


def split_roots(paths: Iterable[Path]) -> tuple[list[Path], IntelAnchors]:
    """The files of ``--root`` that are not Intel-shaped, and Intel's anchors with the roots of those that are."""
    others, anchors = [], IntelAnchors.intel()
    for path in paths:
        roots = intel_collateral_of(read_file(path)).by_role(IntelRole.ROOT)
        if not roots:
            others.append(path)
        for root in roots:
            anchors = anchors.with_test_root(root.der)
    return others, anchors

"""Evidence of SEV-SNP guests in the service: a report, the certificates to verify it with, the list to revoke them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from attest.broker.appraise import anchors_of
from attest.broker.collateral import ServiceCollateral
from attest.broker.presented import Blob, Memory, Put
from attest.endorsement.pool import EndorsementSet
from attest.errors import AttestError
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl, UnrelatedCertificate
from attest.evidence.cert_table import CertEntry
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.product import product_of_report
from attest.evidence.snp_json import decode_snp_json
from attest.evidence.snp_report import SnpReport
from attest.verifier.snp import SnpVerifier
from policy.claims import VerifiedClaims
from policy.document import PolicyDocument


@dataclass(frozen=True, slots=True)
class PresentedSnp:
    """``not_fetched`` says why collateral that was asked for did not come."""

    report: SnpReport
    endorsements: EndorsementSet = field(default_factory=EndorsementSet)
    list_too_old: bool = False
    not_fetched: tuple[str, ...] = ()

    @property
    def launch_digest(self) -> bytes:
        """MEASUREMENT."""
        return self.report.measurement

    def verify(self, report_data: bytes, document: PolicyDocument, now: datetime, memory: Memory) -> VerifiedClaims:
        """See :meth:`attest.verifier.snp.SnpVerifier.verify`."""
        verifier = SnpVerifier(anchors_of(document, self.endorsements), memory.chains)
        return verifier.verify(self.report, self.endorsements, now=now, expected_report_data=report_data)

    def keep(self, put: Put) -> Mapping[str, Any]:
        """The report, and every certificate and list it was verified with."""
        pool = self.endorsements
        certificates = (*pool.leaves, *pool.intermediates, *pool.roots)
        return {
            "report": put(self.report.raw),
            "certificates": [put(item.der) for item in certificates],
            "crls": [put(item.der) for item in pool.crls],
            "sent": sorted(digest.hex() for digest in pool.offered),
            "crl_too_old": self.list_too_old,
            "not_fetched": list(self.not_fetched),
        }


def present_snp(
    evidence: object, collateral: ServiceCollateral, document: PolicyDocument, report_data: bytes, now: datetime
) -> PresentedSnp:
    """From the request's JSON. Raises EvidenceMalformed, and CollateralUnreadable for the operator's folder."""
    decoded = decode_snp_json(evidence)
    sent = _sent_endorsements(decoded.certificates)
    at_hand = collateral.endorsements(decoded.report, sent, document, report_data, now)
    pool = relevant(decoded.report, at_hand.endorsements)
    return PresentedSnp(decoded.report, pool, at_hand.crl_too_old, at_hand.problems)


MAX_SENT = 16
"""Certificates and lists that may come with one guest's evidence; a chain and its lists are six. Each leaf is tried
under each intermediate and each root, and made-up ones, which carry a root's own key, cost the check of an RSA
signature each time.
"""
_REMEMBERED = 16 * 1024
"""Bytes of what came with one guest's evidence."""
# Of many records most rest on the same chain.
_certificate = lru_cache(1024)(AmdCertificate.parse)
_crl = lru_cache(64)(AmdCrl.parse)


def restore_snp(kept: Mapping[str, Any], blob: Blob) -> PresentedSnp:
    """From what :meth:`PresentedSnp.keep` left in a record."""
    certificates, crls = [blob(digest) for digest in kept["certificates"]], [blob(digest) for digest in kept["crls"]]
    pool = _pool(tuple(certificates), tuple(crls), tuple(kept["sent"]))
    return PresentedSnp(SnpReport.parse(blob(kept["report"])), pool, kept["crl_too_old"])


@lru_cache(1024)
def _pool(certificates: tuple[bytes, ...], crls: tuple[bytes, ...], sent: tuple[str, ...]) -> EndorsementSet:
    pool = EndorsementSet.of(map(_certificate, certificates), map(_crl, crls))
    offered = frozenset(bytes.fromhex(digest) for digest in sent)
    return EndorsementSet(pool.leaves, pool.intermediates, pool.roots, pool.crls, offered)


def relevant(report: SnpReport, pool: EndorsementSet) -> EndorsementSet:
    """The part of ``pool`` that can matter for ``report``: what an audit record has to keep."""
    try:
        leaves = pool.candidates(report, product_of_report(report))
    except AttestError:
        leaves = ()
    products = {leaf.product for leaf in leaves}
    return EndorsementSet(
        leaves=leaves,
        intermediates=tuple(item for item in pool.intermediates if item.product in products),
        roots=tuple(item for item in pool.roots if item.product in products),
        crls=tuple(item for item in pool.crls if item.product in products),
        offered=pool.offered & {leaf.sha256 for leaf in leaves},
    )


def _sent_endorsements(entries: tuple[CertEntry, ...]) -> EndorsementSet:
    """Certificates and CRLs that came with the evidence. Raises EvidenceMalformed; unrelated ones are passed over.

    A machine's guests send the same whenever they attest; what is larger than a chain and its list is not remembered.
    """
    small = sum(len(entry.data) for entry in entries) <= _REMEMBERED
    return _remembered(entries) if small else _read(entries)


def _read(entries: tuple[CertEntry, ...]) -> EndorsementSet:
    certificates: list[AmdCertificate] = []
    crls: list[AmdCrl] = []
    sent = [(entry.name, der) for entry in entries for der in entry.ders]
    if len(sent) > MAX_SENT:
        raise EvidenceMalformed(
            f"snp evidence: cert_chain: {len(sent)} certificates and lists, want at most {MAX_SENT}"
        )
    for name, der in sent:
        try:
            if name == "CRL":
                crls.append(_crl(der))
            else:
                certificates.append(_certificate(der))
        except UnrelatedCertificate:
            continue
    return EndorsementSet.of(certificates, crls, with_evidence=True)


_remembered = lru_cache(256)(_read)

"""Certificates and CRLs at hand, sorted by the place in the chain they claim. A pool is not trusted; it is searched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from attest.endorsement.errors import EndorsementMissing
from attest.evidence.amd_certificate import LEAF_KIND, AmdCertificate, AmdCrl, Role
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.product import tcb_for_display
from attest.evidence.snp_report import SnpReport
from policy.snp import SigningKey
from policy.vocab import SnpProduct


@dataclass(frozen=True, slots=True)
class EndorsementSet:
    """What the sender and the operator supplied.

    ``offered`` holds the digests of leaves that came *with* the evidence: they claim to be its endorsement, and a
    mismatch is a failure. Other leaves are a library in which the right one may or may not be. ``damaged`` are the
    errors of certificates that did not parse.
    """

    leaves: tuple[AmdCertificate, ...] = ()
    intermediates: tuple[AmdCertificate, ...] = ()
    roots: tuple[AmdCertificate, ...] = ()
    crls: tuple[AmdCrl, ...] = ()
    offered: frozenset[bytes] = frozenset()
    damaged: tuple[EvidenceMalformed, ...] = ()

    @classmethod
    def of(
        cls, certificates: Iterable[AmdCertificate] = (), crls: Iterable[AmdCrl] = (), *, with_evidence: bool = False
    ) -> EndorsementSet:
        """Sort parsed certificates by role."""
        unique = tuple({certificate.sha256: certificate for certificate in certificates}.values())
        leaves = tuple(item for item in unique if item.role in LEAF_KIND)
        return cls(
            leaves=leaves,
            intermediates=tuple(item for item in unique if item.role in (Role.ASK, Role.ASVK)),
            roots=tuple(item for item in unique if item.role is Role.ARK),
            crls=tuple({crl.sha256: crl for crl in crls}.values()),
            offered=frozenset(leaf.sha256 for leaf in leaves) if with_evidence else frozenset(),
        )

    @classmethod
    def from_der(
        cls, certificates: Iterable[bytes] = (), crls: Iterable[bytes] = (), *, with_evidence: bool = False
    ) -> EndorsementSet:
        """Parse and sort; raises :class:`EvidenceMalformed` for the first that does not parse."""
        return cls.of(map(AmdCertificate.parse, certificates), map(AmdCrl.parse, crls), with_evidence=with_evidence)

    def __add__(self, other: EndorsementSet) -> EndorsementSet:
        # Most of what is added for a guest is nothing; two sets that are made by :meth:`of` are in order already.
        if other == _EMPTY:
            return self
        if self == _EMPTY:
            return other
        both = EndorsementSet.of(
            (*self.leaves, *self.intermediates, *self.roots, *other.leaves, *other.intermediates, *other.roots),
            (*self.crls, *other.crls),
        )
        return EndorsementSet(
            both.leaves, both.intermediates, both.roots, both.crls, self.offered | other.offered,
            self.damaged + other.damaged,
        )  # fmt: skip

    def issuers(self, leaf: AmdCertificate) -> tuple[AmdCertificate, ...]:
        """ASKs (for a VCEK) or ASVKs (for a VLEK) of the leaf's product."""
        role = Role.ASK if leaf.role is Role.VCEK else Role.ASVK
        return tuple(item for item in self.intermediates if item.role is role and item.product is leaf.product)

    def fitting(self, report: SnpReport, product: SnpProduct | None) -> tuple[AmdCertificate, ...]:
        """The leaves at hand that fit the report's kind of key, chip and TCB."""
        return tuple([leaf for leaf in self.leaves if _fits(leaf, report, product)])

    def candidates(self, report: SnpReport, product: SnpProduct | None) -> tuple[AmdCertificate, ...]:
        """Leaves that may have signed ``report``, best first; never empty.

        Those that fit kind, chip and TCB. If none does: those that came with the evidence, or the only key there is, so
        that verification can say what is wrong with it. Otherwise raises :class:`EndorsementMissing`, or the error of a
        damaged certificate when nothing else was supplied.
        """
        if fitting := self.fitting(report, product):
            return fitting
        named = tuple(leaf for leaf in self.leaves if leaf.sha256 in self.offered)
        if named:
            return named
        if self.leaves and len({leaf.spki for leaf in self.leaves}) == 1:
            return self.leaves
        if self.damaged and not self.leaves:
            raise self.damaged[0]
        raise self._missing(report, product)

    def _missing(self, report: SnpReport, product: SnpProduct | None) -> EndorsementMissing:
        where = f" {product.value}" if product else ""
        parts = tcb_for_display(report.reported_tcb, product) if product else None
        tcb = str(parts or report.reported_tcb.hex())
        if report.signing_key is SigningKey.VLEK:
            what = f"no{where} VLEK for reported TCB {tcb}"
            hint = "a VLEK comes with the evidence (extended report); only the cloud can fetch one"
        else:
            chip = report.chip_id.hex().rstrip("0")[:32] or "0 (masked)"
            what = f"no{where} VCEK for chip {chip}… at reported TCB {tcb}{self._for_chip(report.chip_id)}"
            hint = "supply it with --collateral, fetch it with --online, or send it along (extended report)"
        return EndorsementMissing(f"endorsement: {what} among {len(self.leaves)} leaf certificates", hint=hint)

    def _for_chip(self, chip_id: bytes) -> str:
        """At which TCB versions keys of the chip are there: often the current one, not the reported."""
        versions = [str(leaf.amd.tcb) for leaf in self.leaves if leaf.amd is not None and leaf.chip_id == chip_id]
        return f" (but at {', '.join(versions[:_MOST_NAMED])})" if versions else ""


_MOST_NAMED = 3
_EMPTY = EndorsementSet()


def _fits(leaf: AmdCertificate, report: SnpReport, product: SnpProduct | None) -> bool:
    return (
        leaf.reported_tcb == report.reported_tcb
        and leaf.kind is report.signing_key
        and (leaf.chip_id is None or leaf.chip_id == report.chip_id)
        and (product is None or product is leaf.product)
    )

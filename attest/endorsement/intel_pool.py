"""Intel's collateral at hand: certificates, CRLs, TCB infos, QE identities. A pool is not trusted; it is searched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from attest.endorsement.errors import EndorsementMissing
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import IntelCertificate, IntelCrl, IntelRole
from attest.evidence.intel_json import QeIdentity, TcbInfo


@dataclass(frozen=True, slots=True)
class IntelCollateral:
    """What the sender and the operator supplied, each thing once. ``damaged``: errors of things that did not parse."""

    certificates: tuple[IntelCertificate, ...] = ()
    crls: tuple[IntelCrl, ...] = ()
    tcb_infos: tuple[TcbInfo, ...] = ()
    qe_identities: tuple[QeIdentity, ...] = ()
    damaged: tuple[EvidenceMalformed, ...] = ()

    @classmethod
    def of(
        cls,
        certificates: Iterable[IntelCertificate] = (),
        crls: Iterable[IntelCrl] = (),
        tcb_infos: Iterable[TcbInfo] = (),
        qe_identities: Iterable[QeIdentity] = (),
        damaged: Iterable[EvidenceMalformed] = (),
    ) -> IntelCollateral:
        """Without repetitions."""
        return cls(_once(certificates), _once(crls), _once(tcb_infos), _once(qe_identities), tuple(damaged))

    def __add__(self, other: IntelCollateral) -> IntelCollateral:
        return IntelCollateral.of(
            (*self.certificates, *other.certificates),
            (*self.crls, *other.crls),
            (*self.tcb_infos, *other.tcb_infos),
            (*self.qe_identities, *other.qe_identities),
            (*self.damaged, *other.damaged),
        )

    def by_role(self, role: IntelRole) -> tuple[IntelCertificate, ...]:
        """The certificates that claim ``role``."""
        return tuple(item for item in self.certificates if item.role is role)

    def tcb_infos_of(self, kind: str, fmspc: bytes, now: datetime) -> list[TcbInfo]:
        """Those of this kind (``SGX`` or ``TDX``) and FMSPC issued not after ``now``, newest first: by date, then by
        evaluation number. At least one, or :class:`EndorsementMissing`.
        """
        fitting = [item for item in self.tcb_infos if item.id == kind and item.fmspc == fmspc]
        return _newest_first(fitting, now, self, f"{kind} TCB info for FMSPC {fmspc.hex()}", f"--fmspc {fmspc.hex()}")

    def qe_identities_of(self, kind: str, now: datetime) -> list[QeIdentity]:
        """Those of this kind (``QE`` or ``TD_QE``), as :meth:`tcb_infos_of`."""
        fitting = [item for item in self.qe_identities if item.id == kind]
        return _newest_first(fitting, now, self, f"QE identity {kind}", "")


_T = TypeVar("_T", IntelCertificate, IntelCrl, TcbInfo, QeIdentity)
_Dated = TypeVar("_Dated", TcbInfo, QeIdentity)


def _once(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple({item.sha256: item for item in items}.values())


def _newest_first(items: list[_Dated], now: datetime, pool: IntelCollateral, what: str, option: str) -> list[_Dated]:
    known = [item for item in items if item.issued <= now]
    if known:
        return sorted(known, key=lambda item: (item.issued, item.number), reverse=True)
    if pool.damaged and not items:
        raise pool.damaged[0]
    when = f" issued by {now:%Y-%m-%dT%H:%M:%SZ}; {len(items)} issued later" if items else ""
    raise EndorsementMissing(
        f"endorsement: no {what}{when}",
        hint=f"supply it with --collateral, or attest collateral fetch {option}".rstrip(),
    )

"""What a rule of an appraisal sees and what it returns. The rules are in ``policy.check_*``, their list in
:mod:`policy.checks`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from policy.claims import SgxClaims, SnpClaims, TdxClaims, TeeClaims
from policy.document import PolicyDocument, TeeRules
from policy.intel_rules import IntelRules
from policy.reference_set import ReferenceSet
from policy.sgx_rules import SgxRules
from policy.snp_rules import SnpRules
from policy.stage import NOBODY, Guest
from policy.tdx import Xfam
from policy.tdx_rules import TdxRules
from policy.vocab import Platform

PASS, FAIL, IGNORED = "pass", "fail", "ignored"


class Check(NamedTuple):
    """One comparison. ``id`` is stable; ``outcome`` is ``pass``, ``fail`` or ``ignored`` (a written decision).

    A tuple, because every decision makes fifty of them and a frozen dataclass takes three times as long.
    """

    id: str
    expected: str
    actual: str
    outcome: str
    clause: str


ClaimsT = TypeVar("ClaimsT", bound=TeeClaims, covariant=True)
RulesT = TypeVar("RulesT", bound=TeeRules | IntelRules, covariant=True)


class Appraisal(NamedTuple, Generic[ClaimsT, RulesT]):
    """What a check may look at: claims, the platform's table of ``document`` (``rules``), and what else counts."""

    claims: ClaimsT
    rules: RulesT
    platform: Platform
    document: PolicyDocument
    references: ReferenceSet
    now: datetime
    guest: Guest = NOBODY


SnpAppraisal = Appraisal[SnpClaims, SnpRules]
TdxAppraisal = Appraisal[TdxClaims, TdxRules]
SgxAppraisal = Appraisal[SgxClaims, SgxRules]
IntelAppraisal = Appraisal[TdxClaims | SgxClaims, IntelRules]
AnyAppraisal = Appraisal[TeeClaims, TeeRules | IntelRules]
"""What rules for every platform see."""

SnpRule = Callable[[SnpAppraisal], Check]
TdxRule = Callable[[TdxAppraisal], Check]
SgxRule = Callable[[SgxAppraisal], Check]
IntelRule = Callable[[IntelAppraisal], Check]


def compared(name: str, expected: object, actual: object, passed: bool, clause: str) -> Check:
    """A comparison that was made."""
    return Check(name, str(expected), str(actual), PASS if passed else FAIL, clause)


def left_out(name: str, actual: object, clause: str) -> Check:
    """A comparison that the policy leaves out; the value is shown all the same."""
    return Check(name, "not compared", str(actual), IGNORED, clause)


def one_of(name: str, wanted: tuple[bytes, ...] | None, got: bytes, clause: str) -> Check:
    """``got`` is listed; ``None`` is the policy's word ``"any"``."""
    if wanted is None:
        return left_out(name, got.hex(), f"{clause}; any is accepted")
    return compared(name, " or ".join(item.hex() for item in wanted) or "none listed", got.hex(), got in wanted, clause)


def masked(name: str, wanted: tuple[int, int] | None, got: int, clause: str) -> Check:
    """The bits of ``got`` under a mask; ``wanted`` is (value, mask), or ``None`` where the policy pins nothing."""
    if wanted is None:
        return left_out(name, hex(got), clause)
    value, mask = wanted
    return compared(name, f"{value:#x} under {mask:#x}", hex(got), got & mask == value, clause)


def features_within(name: str, allowed: int | None, got: int, clause: str) -> Check:
    """No feature of an XFAM (or XFRM) mask beyond ``allowed``."""
    if allowed is None:
        return left_out(name, hex(got), clause)
    extra = Xfam(got & ~allowed)
    suffix = f" ({', '.join(extra.names)} too many)" if extra else ""
    return compared(name, f"no bit beyond {allowed:#x}", f"{got:#x}{suffix}", not extra, clause)


def features_present(name: str, required: int | None, got: int, clause: str) -> Check:
    """All features of an XFAM (or XFRM) mask that are ``required``."""
    if required is None:
        return left_out(name, hex(got), clause)
    missing = Xfam(required & ~got)
    suffix = f" ({', '.join(missing.names)} missing)" if missing else ""
    return compared(name, f"all of {required:#x}", f"{got:#x}{suffix}", not missing, clause)


def bit(value: bool) -> str:
    """A flag as it stands in the report."""
    return "1" if value else "0"

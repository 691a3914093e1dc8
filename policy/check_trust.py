"""Rules for every kind of evidence: the root it hangs from, and that the policy speaks of its kind at all."""

from __future__ import annotations

from policy.check import FAIL, AnyAppraisal, Check, compared
from policy.claims import AMD_ROOT, INTEL_ROOT, SnpClaims, TdxClaims, TeeClaims
from policy.document import PolicyDocument
from policy.vocab import Platform


def root(of: AnyAppraisal) -> Check:
    """The chain ends in a root the policy names; one vendor's root vouches for nothing of another's."""
    wanted = " or ".join(of.document.roots)
    vendor = "AMD" if isinstance(of.claims, SnpClaims) else "Intel"
    clause = "trust.roots: only chips under a named root are believed" + (
        f"; this root is not {vendor}'s, the hardware is emulated" if of.claims.emulated else ""
    )
    foreign = of.claims.emulated and of.claims.root in (AMD_ROOT, INTEL_ROOT)
    passed = of.claims.root in of.document.roots and not foreign
    return compared("trust.root", wanted, of.claims.root, passed, clause)


def no_table(claims: TeeClaims, platform: Platform, document: PolicyDocument) -> Check:
    """What a policy does not speak of it does not accept."""
    name = "snp" if isinstance(claims, SnpClaims) else "tdx" if isinstance(claims, TdxClaims) else "sgx"
    clause = f"policy {document.name} has no table for evidence of platform {platform.value}, so it accepts none"
    return Check("trust.table", f"a [{name}] table in the policy", "none", FAIL, clause)

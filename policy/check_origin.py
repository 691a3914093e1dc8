"""Rules about where a report comes from: revocation, product, CPU, chip, cloud."""

from __future__ import annotations

import re
from functools import lru_cache

from policy.check import FAIL, Check, SnpAppraisal, compared, left_out
from policy.snp import SigningKey


def revocation(of: SnpAppraisal) -> Check:
    """The chain was compared with a current CRL."""
    clause = "snp.revocation: AMD revokes intermediates through its CRLs"
    state = of.claims.revocation
    if of.rules.revocation == "not-checked" and state != "good":
        return left_out("snp.revocation", state, f"{clause}; the policy tolerates {state}")
    return compared("snp.revocation", "good", state, state == "good", clause)


def report_version(of: SnpAppraisal) -> Check:
    """Old firmware writes old report versions, which lack the CPU's identity."""
    least, got = of.rules.report_version_min, of.claims.version
    return compared("snp.report-version", f">= {least}", got, got >= least, "snp.report_version_min")


def product(of: SnpAppraisal) -> Check:
    """The product line, taken from the certificate chain."""
    wanted = [item.value for item in of.rules.products]
    got = of.claims.product
    return compared(
        "snp.product", " or ".join(wanted), got.value, got in of.rules.products,
        "snp.products: a product whose keys leaked can be refused as a whole",
    )  # fmt: skip


def cpuid(of: SnpAppraisal) -> Check:
    """Family, model and stepping of the CPU, against a list and a list of denied ones.

    A report before version 3 does not name the CPU: it passes neither list, for it cannot be shown to be elsewhere.
    """
    rules, claims = of.rules, of.claims
    family, model, step = claims.cpuid_fam_id, claims.cpuid_mod_id, claims.cpuid_step
    if family is None or model is None or step is None:
        actual, clause = "not in a report of this version", "snp.cpuids and snp.denied_cpuids: the CPU is unknown"
        if rules.cpuids is None and not rules.denied_cpuids:
            return left_out("snp.cpuid", actual, "snp.cpuids: any CPU of the accepted products")
        return Check("snp.cpuid", "a report that names the CPU (version 3)", actual, FAIL, clause)
    actual = f"0x{family:x}/0x{model:x}/{step}"
    denied = [pattern.text for pattern in rules.denied_cpuids if pattern.matches(family, model, step)]
    if denied:
        return Check("snp.cpuid", f"not {' or '.join(denied)}", actual, FAIL, "snp.denied_cpuids")
    if rules.cpuids is None:
        return left_out("snp.cpuid", actual, "snp.cpuids: any CPU of the accepted products")
    listed = " or ".join(pattern.text for pattern in rules.cpuids) or "none listed"
    passed = any(pattern.matches(family, model, step) for pattern in rules.cpuids)
    return compared("snp.cpuid", listed, actual, passed, "snp.cpuids")


def signing_key(of: SnpAppraisal) -> Check:
    """VCEK (this chip) or VLEK (this cloud)."""
    wanted = [item.name for item in of.rules.signing_keys]
    got = of.claims.signing_key
    return compared("snp.signing-key", " or ".join(wanted), got.name, got in of.rules.signing_keys, "snp.signing_keys")


def chip(of: SnpAppraisal) -> Check:
    """The chip is on the list and not on the other list.

    One without a number (masked by the host, or under a VLEK) cannot be shown to be another than a denied one.
    """
    rules, got = of.rules, of.claims.chip_id
    if rules.denied_chip_ids and not any(got):
        return Check(
            "snp.chip-id", "a chip that is not denied", "none: masked, or under a VLEK", FAIL, "snp.denied_chip_ids"
        )
    short = got[:8] if not any(got[8:]) else got
    if got in rules.denied_chip_ids or short in rules.denied_chip_ids:
        return Check("snp.chip-id", "a chip that is not denied", got.hex(), FAIL, "snp.denied_chip_ids")
    wanted = rules.chip_ids
    if wanted is None:
        return left_out("snp.chip-id", got.hex(), "snp.chip_ids: any chip of the accepted products")
    listed = " or ".join(item.hex() for item in wanted) or "none listed"
    return compared("snp.chip-id", listed, got.hex(), got in wanted or short in wanted, "snp.chip_ids")


def csp(of: SnpAppraisal) -> Check:
    """Whose cloud a VLEK belongs to."""
    wanted, got = of.rules.csp_ids, of.claims.csp_id
    if of.claims.signing_key is not SigningKey.VLEK:
        return left_out("snp.csp-id", got, "snp.csp_ids: only a VLEK names a cloud; a VCEK signed")
    if wanted is None:
        return left_out("snp.csp-id", got, "snp.csp_ids: any cloud")
    passed = got is not None and any(_glob(pattern).fullmatch(got) for pattern in wanted)
    return compared("snp.csp-id", " or ".join(wanted) or "none listed", got, passed, "snp.csp_ids")


@lru_cache(maxsize=64)
def _glob(pattern: str) -> re.Pattern[str]:
    """``*`` is one part of a host name, so that ``*.amazonaws.com`` cannot match another domain's sub-domain."""
    return re.compile("[a-z0-9-]+".join(map(re.escape, pattern.split("*"))), re.ASCII)

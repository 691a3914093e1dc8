"""Rules about an SGX enclave: what it is, who signed it, and what it may do."""

from __future__ import annotations

from policy.check import (
    Check,
    SgxAppraisal,
    SgxRule,
    bit,
    compared,
    features_present,
    features_within,
    left_out,
    masked,
    one_of,
)
from policy.tdx import SgxAttributes


def identity(of: SgxAppraisal) -> Check:
    """MRENCLAVE is listed, or a listed signer made this product in a version that is new enough."""
    claims, rules = of.claims, of.rules
    fitting = [
        entry for entry in rules.signers
        if entry.mrsigner == claims.mrsigner and entry.isvprodid == claims.isvprodid
        and claims.isvsvn >= entry.isvsvn_min
    ]  # fmt: skip
    wanted = [f"MRENCLAVE {item.hex()}" for item in rules.mrenclaves]
    wanted += [
        f"MRSIGNER {entry.mrsigner.hex()} product {entry.isvprodid} version >= {entry.isvsvn_min}"
        for entry in rules.signers
    ]
    actual = f"MRENCLAVE {claims.mrenclave.hex()}, MRSIGNER {claims.mrsigner.hex()}"
    actual += f" product {claims.isvprodid} version {claims.isvsvn}"
    clause = "sgx.mrenclaves, sgx.signer: one program, or all of a signer's that are new enough"
    clause += f" ({'; '.join(entry.reason for entry in fitting if entry.reason)})" if fitting else ""
    passed = bool(fitting) or claims.mrenclave in rules.mrenclaves
    return compared("sgx.identity", " or ".join(wanted) or "none listed", actual, passed, clause)


def debug(of: SgxAppraisal) -> Check:
    """A debug enclave's memory is the host's to read and change."""
    return _forbidden(of, "debug", SgxAttributes.DEBUG, "the host may read and change the enclave", of.rules.debug)


def provision_key(of: SgxAppraisal) -> Check:
    """Only Intel's own enclaves need the provisioning keys."""
    why = "the enclave can derive keys that identify the platform for ever"
    return _forbidden(of, "provision_key", SgxAttributes.PROVISION_KEY, why, of.rules.provision_key)


def _forbidden(of: SgxAppraisal, key: str, index: int, why: str, allowed: bool) -> Check:
    got = of.claims.attributes.bit(index)
    name, clause = f"sgx.attributes.{key.replace('_', '-')}", f"sgx.{key}: {why}"
    if allowed:
        return left_out(name, bit(got), f"{clause}; the policy allows it")
    return compared(name, bit(False), bit(got), not got, clause)


def attributes(of: SgxAppraisal) -> Check:
    """ATTRIBUTES.FLAGS as a whole, where the policy pins them."""
    clause = "sgx.attributes: the whole field under a mask"
    return masked("sgx.attributes", of.rules.attributes, of.claims.attributes, clause)


def miscselect(of: SgxAppraisal) -> Check:
    """What the processor reports to the host about exceptions inside."""
    clause = "sgx.miscselect: exception details given to the host"
    return masked("sgx.miscselect", of.rules.miscselect, of.claims.miscselect, clause)


def xfrm_allowed(of: SgxAppraisal) -> Check:
    """No processor feature beyond the policy's."""
    clause = "sgx.xfrm_allowed: processor state the enclave may use"
    return features_within("sgx.xfrm", of.rules.xfrm_allowed, of.claims.xfrm, clause)


def xfrm_required(of: SgxAppraisal) -> Check:
    """Processor features the enclave relies on."""
    clause = "sgx.xfrm_required: a host could take a feature away that the enclave relies on"
    return features_present("sgx.xfrm-required", of.rules.xfrm_required, of.claims.xfrm, clause)


def configid(of: SgxAppraisal) -> Check:
    """What the host configured at launch (with KSS)."""
    return one_of("sgx.configid", of.rules.configid, of.claims.configid, "sgx.configid: chosen by the host at launch")


def configsvn(of: SgxAppraisal) -> Check:
    """The version of that configuration."""
    least, got = of.rules.configsvn_min, of.claims.configsvn
    return compared(
        "sgx.configsvn", f">= {least}", got, got >= least, "sgx.configsvn_min: chosen by the host at launch"
    )


def isvextprodid(of: SgxAppraisal) -> Check:
    """The signer's longer product number (with KSS)."""
    clause = "sgx.isvextprodid: the signer's own numbering"
    return one_of("sgx.isvextprodid", of.rules.isvextprodid, of.claims.isvextprodid, clause)


def isvfamilyid(of: SgxAppraisal) -> Check:
    """The signer's product family (with KSS)."""
    clause = "sgx.isvfamilyid: the signer's own numbering"
    return one_of("sgx.isvfamilyid", of.rules.isvfamilyid, of.claims.isvfamilyid, clause)


ENCLAVE_RULES: tuple[SgxRule, ...] = (
    identity, debug, provision_key, attributes, xfrm_allowed, xfrm_required, miscselect, configid, configsvn,
    isvextprodid, isvfamilyid,
)  # fmt: skip

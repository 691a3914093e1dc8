"""A policy in words, rule by rule, from the decoded document: what it accepts and what it leaves out."""

from __future__ import annotations

from policy.document import DEMANDS, PERMISSIONS, PolicyDocument, SnpRules

Rule = tuple[str, str, bool]
"""Key, what it means, and whether anything is compared."""


def policy_rules(document: PolicyDocument) -> tuple[Rule, ...]:
    """Every rule, in the order of the document."""
    return (
        ("trust.roots", f"the chain ends in: {', '.join(document.roots)}", True),
        _measurement(document),
        *_snp(document.snp),
        *_floors(document.snp),
    )


def _measurement(document: PolicyDocument) -> Rule:
    words = {
        "registered": ("the launch digest equals a registered reference value", True),
        "listed": (f"the launch digest is one of {len(document.launch_digests)} listed in the policy", True),
        "any": ("any launch digest is accepted", False),
    }
    text, compared = words[document.measurement]
    return "measurement", text, compared


def _snp(rules: SnpRules) -> tuple[Rule, ...]:
    permissions = tuple(
        (f"snp.{key}", f"{'allowed' if rules.permissions[key] else 'forbidden'}: {text}", not rules.permissions[key])
        for key, text in PERMISSIONS.items()
    )
    demands = tuple(
        (f"snp.{key}", f"{'required' if rules.demands[key] else 'not required'}: {text}", rules.demands[key])
        for key, text in DEMANDS.items()
    )
    return (
        ("snp.products", " or ".join(product.value for product in rules.products), True),
        ("snp.signing_keys", " or ".join(key.name for key in rules.signing_keys), True),
        ("snp.report_version_min", f"report version {rules.report_version_min} or later", True),
        ("snp.vmpl", f"privilege level {' or '.join(map(str, rules.vmpl))}", True),
        *permissions,
        *demands,
        ("snp.abi_min", f"the guest policy demands ABI {rules.abi_min[0]}.{rules.abi_min[1]} or later", True),
        ("snp.alias_check", "memory aliases were checked at boot (BadRAM)", rules.alias_check),
        ("snp.ecc", "ECC memory", rules.ecc),
        ("snp.unknown_platform_bits", "undefined platform bits are zero", not rules.unknown_platform_bits),
        ("snp.provisional_firmware", "the running firmware is committed", not rules.provisional_firmware),
        ("snp.guest_svn_min", f"guest SVN {rules.guest_svn_min} or later", rules.guest_svn_min > 0),
        ("snp.host_data", _one(rules.host_data), rules.host_data is not None),
        ("snp.id_key_digests", _list(rules.id_key_digests), rules.id_key_digests is not None),
        ("snp.author_key_digests", _list(rules.author_key_digests), rules.author_key_digests is not None),
        ("snp.chip_ids", _list(rules.chip_ids), rules.chip_ids is not None),
        ("snp.denied_chip_ids", f"{len(rules.denied_chip_ids)} chips are denied", bool(rules.denied_chip_ids)),
        ("snp.csp_ids", "any cloud" if rules.csp_ids is None else ", ".join(rules.csp_ids) or "none", True),
        ("snp.revocation", f"revocation state {rules.revocation}", rules.revocation == "good"),
    )


def _floors(rules: SnpRules) -> tuple[Rule, ...]:
    found = []
    for entry in rules.minimum_tcb:
        models = "all models" if not entry.models else f"models {entry.models[0]:#x}..{entry.models[-1]:#x}"
        found.append(("snp.minimum_tcb", f"{entry.product.value}, {models}: {entry.floor} — {entry.reason}", True))
    return tuple(found)


def _one(value: bytes | None) -> str:
    return "any value" if value is None else value.hex()


def _list(values: tuple[bytes, ...] | None) -> str:
    return "any value" if values is None else f"one of {len(values)} listed"

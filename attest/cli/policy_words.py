"""A policy in words, rule by rule, from the decoded document: what it accepts and what it leaves out."""

from __future__ import annotations

import json
from hashlib import sha256

from attest.cli.policy_words_intel import intel_warnings, sgx_words, tdx_words
from policy.document import PolicyDocument
from policy.rego_rules import RegoRules
from policy.snp_rules import DEMANDS, PERMISSIONS, PLATFORM_BITS, CpuidPattern, FirmwareRule, SnpRules

Rule = tuple[str, str, bool]
"""Key, what it means, and whether anything is compared."""


def policy_rules(document: PolicyDocument) -> tuple[Rule, ...]:
    """Every rule, in the order of the document."""
    return (
        ("trust.roots", f"the chain ends in: {', '.join(document.roots)}", True),
        _measurement(document),
        *(() if document.snp is None else _snp_words(document.snp)),
        *(() if document.tdx is None else tdx_words(document.tdx)),
        *(() if document.sgx is None else sgx_words(document.sgx)),
        *(() if document.rego is None else _rego(document.rego)),
    )


def _rego(rules: RegoRules) -> tuple[Rule, ...]:
    """By digest: what the text means only its author and the engine know."""
    policies = (("attestation", rules.attestation), ("resource", rules.resource))
    texts = tuple(
        (f"rego.{name}", f"and the Rego policy of SHA-256 {sha256(text.encode()).hexdigest()} agrees", True)
        for name, text in policies
        if text is not None
    )
    values = tuple(
        (f"rego.reference_values.{name}", json.dumps(value), True)
        for name, value in sorted(rules.reference_values.items())
    )
    return (*texts, *values)


def _snp_words(rules: SnpRules) -> tuple[Rule, ...]:
    return (*_snp(rules), *(rule for entry in rules.firmware for rule in _firmware(entry)), *_floors(rules))


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
        *_platform(rules),
        ("snp.cpuids", _patterns(rules.cpuids), rules.cpuids is not None),
        ("snp.denied_cpuids", f"denied: {_patterns(rules.denied_cpuids)}", bool(rules.denied_cpuids)),
        *_guest(rules),
        ("snp.chip_ids", _list(rules.chip_ids), rules.chip_ids is not None),
        ("snp.denied_chip_ids", f"{len(rules.denied_chip_ids)} chips are denied", bool(rules.denied_chip_ids)),
        ("snp.csp_ids", "any cloud" if rules.csp_ids is None else ", ".join(rules.csp_ids) or "none", True),
        ("snp.revocation", f"revocation state {rules.revocation}", rules.revocation == "good"),
    )


def _platform(rules: SnpRules) -> tuple[Rule, ...]:
    words = {True: "required", False: "forbidden", None: "not compared"}
    bits = tuple(
        (f"snp.{key}", f"{words[rules.platform[key]]}: {bit.why}", rules.platform[key] is not None)
        for key, bit in PLATFORM_BITS.items()
    )
    return (
        *bits,
        ("snp.unknown_platform_bits", "undefined platform bits are zero", not rules.unknown_platform_bits),
        ("snp.provisional_firmware", "the running firmware is committed", not rules.provisional_firmware),
    )


def _guest(rules: SnpRules) -> tuple[Rule, ...]:
    agents = rules.migration_agents
    return (
        ("snp.guest_svn_min", f"guest SVN {rules.guest_svn_min} or later", rules.guest_svn_min > 0),
        ("snp.family_ids", _list(rules.family_ids), rules.family_ids is not None),
        ("snp.image_ids", _list(rules.image_ids), rules.image_ids is not None),
        ("snp.report_data", _one(rules.report_data), rules.report_data is not None),
        ("snp.report_ids", _list(rules.report_ids), rules.report_ids is not None),
        ("snp.migration_agents", "no migration agent" if agents == () else _list(agents), agents is not None),
        ("snp.host_data", _one(rules.host_data), rules.host_data is not None),
        ("snp.id_key_digests", _list(rules.id_key_digests), rules.id_key_digests is not None),
        ("snp.author_key_digests", _list(rules.author_key_digests), rules.author_key_digests is not None),
    )


def _firmware(rule: FirmwareRule) -> tuple[Rule, ...]:
    wanted = {
        "current": None if rule.current is None else f"{_dotted(rule.current)} or later",
        "committed": None if rule.committed is None else f"{_dotted(rule.committed)} or later",
        "launch_mitigations": None if rule.launch_mitigations is None else f"all bits of {rule.launch_mitigations:#x}",
        "current_mitigations": None
        if rule.current_mitigations is None
        else f"all bits of {rule.current_mitigations:#x}",
    }
    name, why = rule.product.value, f" — {rule.reason}" if rule.reason else ""
    return tuple(
        (f"snp.firmware.{key}", f"{name}: " + ("any" if text is None else text + why), text is not None)
        for key, text in wanted.items()
    )


def _floors(rules: SnpRules) -> tuple[Rule, ...]:
    found = []
    for entry in rules.minimum_tcb:
        models = "all models" if not entry.models else f"models {entry.models[0]:#x}..{entry.models[-1]:#x}"
        if entry.steppings:
            models += f" steppings {', '.join(map(str, entry.steppings))}"
        text = f"{entry.product.value}, {models}, {', '.join(entry.applies_to)}: {entry.floor} — {entry.reason}"
        found.append(("snp.minimum_tcb", text, True))
    return tuple(found)


def policy_warnings(document: PolicyDocument) -> tuple[str, ...]:
    """What an author should have thought about before the policy guards a secret."""
    found = []
    if document.emulated_allowed:
        found.append("trust.roots: a root that is no chip vendor's is trusted; its hardware protects nothing")
    if document.measurement == "any":
        found.append("measurement: any guest on accepted chips is accepted, another tenant's and an attacker's too")
    found += _root_warnings(document)
    if document.snp is not None:
        found += _snp_warnings(document.snp)
    return (*found, *intel_warnings(document))


def _root_warnings(document: PolicyDocument) -> list[str]:
    """A table without a root accepts nothing, and a root without a table."""
    intel = document.tdx is not None or document.sgx is not None
    wanted = {"amd": ("snp", document.snp is not None), "intel": ("tdx or sgx", intel)}
    found = []
    for root, (table, there) in wanted.items():
        if there and not document.emulated_allowed and root not in document.roots:
            found.append(f"trust.roots: {table} accepts nothing, as {root} is not among the roots")
        if root in document.roots and not there:
            found.append(f"trust.roots: {root} is trusted, but there is no table {table}")
    return found


def _snp_warnings(rules: SnpRules) -> list[str]:
    found = []
    if rules.permissions["debug"]:
        found.append("snp.debug: the host may decrypt the guest's memory")
    milan = any(product.value == "Milan" for product in rules.products)
    if milan and any(key.name == "VCEK" for key in rules.signing_keys) and rules.chip_ids is None:
        found.append(
            "snp.products: Milan under a VCEK without chip_ids: whoever extracted the seed of any one Milan "
            "(arXiv 2605.12990) can sign any report for it; list the chips you know, or demand a VLEK"
        )
    if rules.csp_ids is None and any(key.name == "VLEK" for key in rules.signing_keys):
        found.append("snp.csp_ids: a VLEK of every cloud is accepted")
    if rules.revocation != "good":
        found.append("snp.revocation: a chain that was not compared with a current CRL is accepted")
    return found


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def _patterns(patterns: tuple[CpuidPattern, ...] | None) -> str:
    return "any CPU" if patterns is None else ", ".join(pattern.text for pattern in patterns) or "none"


def _one(value: bytes | None) -> str:
    return "any value" if value is None else value.hex()


def _list(values: tuple[bytes, ...] | None) -> str:
    return "any value" if values is None else f"one of {len(values)} listed"

"""Decoding the ``[snp]`` table of a policy. No key has a default; every problem is collected with its path."""

from __future__ import annotations

import re

from policy.snp import SigningKey, TcbVersion
from policy.snp_rules import (
    DEMANDS,
    PERMISSIONS,
    PLATFORM_BITS,
    TCBS,
    CpuidPattern,
    FirmwareRule,
    MinimumTcb,
    SnpRules,
)
from policy.table import Table
from policy.table_values import U64, each, enums, hex_list, integer, one_hex, word_is
from policy.vocab import SnpProduct

_REQUIRED = {"require": True, "forbid": False}
_NUMBER = r"(?:0[xX][0-9a-fA-F]{1,2}|\d{1,3})"
_CPUID_PART = re.compile(rf"(\*)|({_NUMBER})(?:-({_NUMBER}))?")
_CSP = re.compile(r"[\x20-\x7e]{1,128}")


def snp_rules(table: Table) -> SnpRules:
    """The rules of ``table``; what it lacks or has too much is recorded as a problem of ``table``."""
    rules = SnpRules(
        products=enums(table, "products", {product.value: product for product in SnpProduct}),
        signing_keys=enums(table, "signing_keys", {"VCEK": SigningKey.VCEK, "VLEK": SigningKey.VLEK}),
        report_version_min=integer(table, "report_version_min", 2, 5),
        vmpl=_vmpl(table),
        permissions={key: table.choice(key, ("allow", "forbid")) == "allow" for key in PERMISSIONS},
        demands={key: table.choice(key, ("require", "ignore")) == "require" for key in DEMANDS},
        platform={key: _REQUIRED.get(table.choice(key, bit.words) or "") for key, bit in PLATFORM_BITS.items()},
        abi_min=_abi(table),
        unknown_platform_bits=table.choice("unknown_platform_bits", ("forbid", "ignore")) == "ignore",
        provisional_firmware=table.choice("provisional_firmware", ("allow", "forbid")) == "allow",
        minimum_tcb=each(table, "minimum_tcb", _minimum),
        firmware=each(table, "firmware", _firmware),
        cpuids=_cpuids(table, "cpuids", any_allowed=True),
        denied_cpuids=_cpuids(table, "denied_cpuids", any_allowed=False) or (),
        guest_svn_min=integer(table, "guest_svn_min", 0, 2**32 - 1),
        family_ids=hex_list(table, "family_ids", (16,)),
        image_ids=hex_list(table, "image_ids", (16,)),
        report_data=one_hex(table, "report_data", 64),
        report_ids=hex_list(table, "report_ids", (32,)),
        migration_agents=hex_list(table, "migration_agents", (32,)),
        host_data=one_hex(table, "host_data", 32),
        id_key_digests=hex_list(table, "id_key_digests", (48,)),
        author_key_digests=hex_list(table, "author_key_digests", (48,)),
        chip_ids=hex_list(table, "chip_ids", (64, 8)),
        denied_chip_ids=hex_list(table, "denied_chip_ids", (64, 8), any_allowed=False) or (),
        csp_ids=_csp(table),
        revocation=table.choice("revocation", ("good", "not-checked")) or "good",
    )
    _check_products(table, rules)
    if rules.migration_agents and not rules.permissions["migrate_ma"]:
        table.problem("migration_agents", 'lists agents, but migrate_ma = "forbid" refuses them all; want []')
    table.finish()
    return rules


def _check_products(table: Table, rules: SnpRules) -> None:
    """Every accepted product has a floor for what its key is derived from, and exactly one firmware entry."""
    for product in rules.products:
        entries = [entry for entry in rules.minimum_tcb if entry.product is product]
        if not any("reported" in entry.applies_to for entry in entries):
            table.problem("minimum_tcb", f"no entry for {product.value}; write one (a floor of zeros, too)")
        count = sum(entry.product is product for entry in rules.firmware)
        if count != 1:
            table.problem("firmware", f'{count} entries for {product.value}, want one (every key may be "any")')


def _vmpl(table: Table) -> tuple[int, ...]:
    value = table.value("vmpl", list, want="a list of privilege levels 0..3")
    if value is None:
        return ()
    good = tuple(item for item in value if type(item) is int and 0 <= item <= 3)
    if len(good) != len(value) or not good:
        table.problem("vmpl", f"got {value!r}, want a non-empty list of 0..3")
    return good


def _abi(table: Table) -> tuple[int, int]:
    text = table.value("abi_min", str, want='a string such as "1.51"') or "0.0"
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", text, re.ASCII)
    if match is None or max(int(match[1]), int(match[2])) > 255:
        table.problem("abi_min", f'got "{text[:20]}", want "major.minor"')
        return 0, 0
    return int(match[1]), int(match[2])


def _minimum(table: Table) -> MinimumTcb | None:
    product = table.choice("product", [item.value for item in SnpProduct])
    models = _bytes(table, "models", "CPUID model numbers")
    steppings = _bytes(table, "steppings", "CPUID steppings")
    applies_to = enums(table, "applies_to", {name: name for name in TCBS})
    names = ["bootloader", "tee", "snp", "microcode"] + (["fmc"] if product == SnpProduct.TURIN.value else [])
    parts = {part: integer(table, part, 0, 255) for part in names}
    reason = table.value("reason", str) or ""
    table.finish()
    if product is None:
        return None
    return MinimumTcb(SnpProduct(product), models, steppings, applies_to, TcbVersion(**parts), reason)


def _bytes(table: Table, key: str, what: str) -> tuple[int, ...]:
    """A list of numbers 0..255, empty for all; may be left out, because a narrower floor is the exception."""
    value = table.value(key, list, [], want=f"a list of {what}") or []
    if not all(type(item) is int and 0 <= item <= 255 for item in value):
        table.problem(key, f"got {value!r}, want {what} 0..255")
        return ()
    return tuple(value)


def _firmware(table: Table) -> FirmwareRule | None:
    product = table.choice("product", [item.value for item in SnpProduct])
    current, committed = _version(table, "current"), _version(table, "committed")
    launch, now = _mask(table, "launch_mitigations"), _mask(table, "current_mitigations")
    reason = table.value("reason", str) or ""
    table.finish()
    return None if product is None else FirmwareRule(SnpProduct(product), current, committed, launch, now, reason)


def _version(table: Table, key: str) -> tuple[int, int, int] | None:
    """``major.minor.build``, each 0..255, or ``any``."""
    text = table.value(key, str, want='"any" or a string such as "1.55.38"')
    if text is None or text == "any":
        return None
    match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", text, re.ASCII)
    if match is None or max(map(int, match.groups())) > 255:
        table.problem(key, f'got "{text[:20]}", want "any" or "major.minor.build"')
        return None
    return int(match[1]), int(match[2]), int(match[3])


def _mask(table: Table, key: str) -> int | None:
    text = table.value(key, str, want='"any" or a mask such as "0x0b"')
    if text is None or text == "any":
        return None
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text) or not 0 < int(text, 16) <= U64:
        table.problem(key, f'got "{text[:20]}", want "any" or a mask "0x1".."0x{U64:x}"')
        return None
    return int(text, 16)


def _cpuids(table: Table, key: str, *, any_allowed: bool) -> tuple[CpuidPattern, ...] | None:
    if any_allowed and word_is(table, key, "any"):
        return None
    found = (_pattern(table, key, text) for text in table.strings(key))
    return tuple(pattern for pattern in found if pattern is not None)


def _pattern(table: Table, key: str, text: str) -> CpuidPattern | None:
    matches = [_CPUID_PART.fullmatch(part) for part in text.split("/")]
    ranges = [(0, 255) if match[1] else _range(match[2], match[3]) for match in matches if match]
    if len(ranges) != 3 or len(matches) != 3 or not all(low <= high <= 255 for low, high in ranges):
        table.problem(key, f'got "{text[:40]}", want family/model/stepping such as "0x19/0x10-0x1f/*"')
        return None
    return CpuidPattern(text, *ranges)


def _range(low: str, high: str | None) -> tuple[int, int]:
    first, last = (int(text, 16) if text[:2] in ("0x", "0X") else int(text) for text in (low, high or low))
    return first, last


def _csp(table: Table) -> tuple[str, ...] | None:
    if word_is(table, "csp_ids", "any"):
        return None
    found = table.strings("csp_ids")
    for text in found:
        if not _CSP.fullmatch(text) or text.count("*") > 1:
            table.problem("csp_ids", f'got "{text[:40]}", want printable ASCII with at most one *')
    return found

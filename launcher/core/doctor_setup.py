"""Judge what an administrator has set up besides hardware and kernel: firmware descriptors, the quote service's cache
(PCCS), this user's limits, entropy, overcommit; and the good news in the kernel's log. ``None``: could not be read.

Sources: QEMU ``docs/interop/firmware.json``; Intel, *SGX PCCS API v4* (``rootcacrl``); Linux ``proc(5)``,
``Documentation/mm/overcommit-accounting.rst``, ``arch/x86/virt/vmx/tdx/tdx.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.core.capability import OK, WARN, Finding
from launcher.core.doctor_checks import SKIP
from launcher.core.text import safe_text
from policy.named import NamedTuple

_WANTED = {"amd-sev-snp": "sev-snp", "intel-tdx": "tdx"}
_KEYS = re.compile(r"virt/tdx: BIOS enabled: private KeyID range \[(0x[0-9a-f]+|\d+), ?(0x[0-9a-f]+|\d+)\)")
_TOLD = (
    ("tdx.module", re.compile(r"virt/tdx: .*(?:[Mm]odule version|major_version)")),
    ("tdx.pamt", re.compile(r"virt/tdx: .*PAMT")),
    ("snp.api", re.compile(r"SEV-SNP API")),
    ("snp.rmp", re.compile(r"SEV-SNP: RMP table physical range")),
)


class Descriptor(NamedTuple):
    """A firmware descriptor: the file's name, the firmware it names, its features; ``problem`` is empty if usable."""

    name: str
    firmware: str
    features: tuple[str, ...]
    problem: str


class SetupFacts(NamedTuple):
    """``memlock``: bytes this user may lock, -1 for no limit. ``pccs``: (address, what is wrong with it or empty).
    ``accelerators`` of QEMU are among its features. ``log``: the kernel's.
    """

    descriptors: tuple[Descriptor, ...]
    memlock: int
    entropy: int | None
    overcommit: str | None
    pccs: tuple[str, str] | None
    log: tuple[str, ...] | None


def setup_findings(facts: SetupFacts) -> tuple[Finding, ...]:
    """All of it."""
    return (
        *_descriptors(facts.descriptors),
        *_pccs(facts.pccs),
        _memlock(facts.memlock),
        *_entropy(facts.entropy),
        *_overcommit(facts.overcommit),
        *_log(facts.log or ()),
    )


def _descriptors(found: tuple[Descriptor, ...]) -> Iterator[Finding]:
    why = "tells tools which firmware starts which kind of guest"
    for item in found:
        kinds = [feature for feature in _WANTED if feature in item.features]
        if item.problem or kinds:
            where = safe_text(f"{item.name}: {item.problem or f'{item.firmware} for {chr(32).join(kinds)}'}", 200)
            fix = "reinstall the package it came with, or take it away" if item.problem else ""
            yield Finding("firmware.descriptor", WARN if item.problem else OK, where, why, fix)
    for feature, platform in _WANTED.items():
        if not any(feature in item.features and not item.problem for item in found):
            seen = f"none of {len(found)} descriptors offers {feature}"
            yield Finding(
                f"firmware.descriptor-{platform}", SKIP, seen, f'{why}; firmware = "auto" looks here last', ""
            )


def _pccs(found: tuple[str, str] | None) -> Iterator[Finding]:
    why = "the quoting enclave's service gets the platform's certificates there; without it there are no quotes"
    if found is None:
        yield Finding("quotes.pccs", SKIP, "/etc/sgx_default_qcnl.conf names no PCCS", why, "")
        return
    address, problem = found
    seen = safe_text(f"{address}: {problem or 'answers with the root CA CRL'}", 200)
    fix = "start the PCCS, register the platform with it, or mend pccs_url" if problem else ""
    yield Finding("quotes.pccs", WARN if problem else OK, seen, why, fix, ("quotes",) if problem else ())


def _memlock(limit: int) -> Finding:
    why = "device assignment locks all memory of a guest"
    enough = limit < 0 or limit >= 1 << 36
    seen = "no limit" if limit < 0 else f"{limit >> 20} MiB"
    fix = "" if enough else "ulimit -l unlimited (systemd: LimitMEMLOCK=infinity)"
    return Finding("memory.lock", OK if enough else WARN, seen, why, fix, () if enough else ("vfio",))


def _entropy(bits: int | None) -> Iterator[Finding]:
    if bits is not None:
        why = "keys of disks and emulated chips are made on this host"
        fix = "" if bits >= 256 else "wait, or load a driver for a hardware generator"
        yield Finding("entropy", OK if bits >= 256 else WARN, f"{bits} bits", why, fix)


def _overcommit(mode: str | None) -> Iterator[Finding]:
    if mode is not None:
        why = "with 2 the kernel counts a guest's shared half in full although it stays nearly empty"
        fix = "sysctl vm.overcommit_memory=0, or commit limits for twice the guests' memory" if mode == "2" else ""
        yield Finding("memory.overcommit", WARN if mode == "2" else OK, f"vm.overcommit_memory={mode}", why, fix)


def _log(lines: tuple[str, ...]) -> Iterator[Finding]:
    for name, pattern in _TOLD:
        for line in lines:
            if pattern.search(line):
                yield Finding(f"log.{name}", OK, safe_text(line, 160), "what firmware and kernel say they have", "")
                break
    for line in lines:
        keys = _KEYS.search(line)
        if keys is not None:
            free = int(keys[2], 0) - int(keys[1], 0) - 1  # the first one is the TDX module's own
            fix = "" if free > 0 else "give TDX more key IDs in the BIOS"
            why = "every TD takes one private key ID"
            yield Finding("slots.keyids", OK if free > 0 else WARN, f"{free} key IDs for TDs", why, fix, ("tdx",))
            return

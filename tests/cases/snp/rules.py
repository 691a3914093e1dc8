"""Appraisal: for every rule a genuine report and a policy in which only that rule refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from policy.snp import SigningKey, TcbVersion
from tests.fakes.amd_pki import FakeAmdPki, Inputs

_DOCUMENT = Path(__file__).resolve().parents[3] / "policy" / "documents" / "strict.toml"
STRICT = _DOCUMENT.read_text().partition("\n[tdx]\n")[0] + "\n"
"""As far as it is about SEV-SNP."""
DIGEST = "11" * 48
Fields = Mapping[str, int | bytes]
Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RuleCase:
    """``lines`` of the policy are replaced, ``report`` fields are set; ``rule`` must be the only one that fails."""

    rule: str
    lines: Lines = ()
    report: Fields = field(default_factory=dict)
    kind: SigningKey = SigningKey.VCEK
    crl: bool = True
    outcome: str = "denied"
    appended: str = ""

    @property
    def world(self) -> FakeAmdPki:
        """A genuine report."""
        return FakeAmdPki(report={"version": 5, **self.report}, kind=self.kind)

    def inputs(self) -> Inputs:
        """With a current CRL, unless that is the point."""
        world = self.world
        return world.inputs(crls=[world.crl()] if self.crl else [])

    def policy(self, root: str) -> str:
        """The strict policy for this world: its root, its launch digest, and the lines of the case."""
        base = (
            ('roots = ["amd", "intel"] ', f'roots = ["{root}"] '),
            ('accept = "registered" ', f'accept = "listed"\nlaunch_digests = ["{DIGEST}"] '),
        )
        text = STRICT
        for old, new in (*base, *self.lines):
            if old not in text:
                raise ValueError(f"{self.rule}: the policy has no {old!r}")
            text = text.replace(old, new, 1)
        return text + self.appended


def _on(key: str, old: str = '"ignore"', new: str = '"require"') -> Lines:
    return ((f"\n{key} = {old}", f"\n{key} = {new}"),)


def _listed(key: str, length: int) -> Lines:
    return _on(key, '"any"', f'["{"cd" * length}"]')


def _floor(which: str) -> str:
    return (
        f'\n[[snp.minimum_tcb]]\nproduct = "Genoa"\napplies_to = ["{which}"]\nbootloader = 10\ntee = 0\nsnp = 24\n'
        'microcode = 85\nreason = "a case"\n'
    )


_LOWER = TcbVersion(10, 0, 23, 84).to_bytes()
_VLEK: Lines = (*_on("signing_keys", '["VCEK"]', '["VLEK"]'), *_on("csp_ids", "[]", '["CN=cc-elsewhere.example"]'))
_DEMANDS = ("single_socket", "mem_aes_256_xts", "rapl_dis", "ciphertext_hiding", "page_swap_disable")
_PLATFORM = {
    "snp.platform.ecc": ("ecc", 0x21),
    "snp.platform.tsme": ("tsme", 0x25),
    "snp.platform.rapl-dis": ("platform_rapl_dis", 0x25),
    "snp.platform.ciphertext-hiding": ("platform_ciphertext_hiding", 0x25),
    "snp.platform.iommu-write-safe": ("iommu_write_safe", 0x25),
}


@cache
def rule_cases() -> tuple[RuleCase, ...]:
    """One case or more for every rule of ``policy.checks``."""
    return (
        RuleCase("trust.root", (('roots = ["test:', 'roots = ["amd"] # ["test:'),)),
        RuleCase("snp.revocation", crl=False, outcome="unavailable"),
        RuleCase("snp.report-version", _on("report_version_min", "3", "5"), {"version": 4}),
        RuleCase("snp.product", _on("products", '["Genoa", "Turin"]', '["Turin"]')),
        RuleCase("snp.cpuid", _on("cpuids", '"any"', '["0x19/0x11/2"]')),
        RuleCase("snp.cpuid", _on("denied_cpuids", "[]", '["25/16-31/1"]')),
        RuleCase("snp.signing-key", _on("signing_keys", '["VCEK"]', '["VLEK"]')),
        RuleCase("snp.vmpl", report={"vmpl": 1}),
        RuleCase("snp.policy.reserved", report={"policy": 0x30000 | 1 << 40}),
        RuleCase("snp.policy.abi", _on("abi_min", '"0.0"', '"1.51"'), {"policy": 0x30132}),
        RuleCase("snp.policy.debug", report={"policy": 0xB0000}),
        RuleCase("snp.policy.migrate-ma", report={"policy": 0x70000}),
        RuleCase("snp.policy.smt", _on("smt", '"allow"', '"forbid"'), {"platform_info": 0x24}),
        RuleCase("snp.policy.cxl-allow", report={"policy": 0x230000}),
        *(RuleCase(f"snp.policy.{key.replace('_', '-')}", _on(key)) for key in _DEMANDS),
        RuleCase("snp.migration-agent", _on("migrate_ma", '"forbid"', '"allow"'),
                 {"policy": 0x70000, "report_id_ma": b"\x01" * 32}),
        RuleCase("snp.migration-agent", _on("migration_agents", "[]", '"any"'), {"report_id_ma": b"\x01" * 32}),
        RuleCase("snp.platform.smt", _on("smt", '"allow"', '"forbid"'), {"policy": 0x20000}),
        RuleCase("snp.platform.alias-check", report={"platform_info": 0x05}),
        *(RuleCase(rule, _on(key), {"platform_info": value}) for rule, (key, value) in _PLATFORM.items()),
        RuleCase("snp.platform.tio", report={"platform_info": 0xA5}),
        RuleCase("snp.platform.reserved", _on("unknown_platform_bits", '"ignore"', '"forbid"'), {"platform_info": 0x125}),
        *(RuleCase(f"snp.tcb.{which}", appended=_floor(which)) for which in ("reported", "committed", "current", "launch")),
        RuleCase("snp.tcb.order", report={"current_tcb": _LOWER, "committed_tcb": _LOWER}),
        RuleCase("snp.firmware.committed", report={"current_build": 41}),
        RuleCase("snp.firmware.current-version", _on("current", '"1.55.38"', '"1.56.0"')),
        RuleCase("snp.firmware.committed-version", _on("committed", '"1.55.38"', '"1.56.0"')),
        RuleCase("snp.mitigations.launch", _on("launch_mitigations", '"any"', '"0x3"'), {"launch_mit_vector": 0x2}),
        RuleCase("snp.mitigations.current", _on("current_mitigations", '"any"', '"0x3"'), {"current_mit_vector": 0x2}),
        RuleCase("snp.guest-svn", _on("guest_svn_min", "0", "7"), {"guest_svn": 6}),
        RuleCase("snp.family-id", _listed("family_ids", 16)),
        RuleCase("snp.image-id", _listed("image_ids", 16)),
        RuleCase("snp.report-data", _on("report_data", '"ignore"', f'"{"cd" * 64}"')),
        RuleCase("snp.report-id", _listed("report_ids", 32)),
        RuleCase("snp.host-data", _on("host_data", '"ignore"', f'"{"cd" * 32}"')),
        RuleCase("snp.id-key-digest", _listed("id_key_digests", 48)),
        RuleCase("snp.author-key-digest", _listed("author_key_digests", 48), {"key_info": 1, "author_key_digest": b"\xab" * 48}),
        RuleCase("snp.author-key-digest", _listed("author_key_digests", 48), {"author_key_digest": b"\xcd" * 48}),
        RuleCase("snp.chip-id", _listed("chip_ids", 64)),
        RuleCase("snp.chip-id", _on("denied_chip_ids", "[]", f'["{bytes(range(1, 65)).hex()}"]')),
        RuleCase("snp.csp-id", _VLEK, kind=SigningKey.VLEK),
        RuleCase("measurement", ((DIGEST, "12" * 48),)),
    )  # fmt: skip

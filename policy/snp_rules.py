"""The rules for SEV-SNP that an appraisal policy can hold, decoded. ``policy.snp_table`` reads them from TOML.

Everywhere ``None`` means that the author wrote ``"ignore"`` or ``"any"``: a comparison left out by decision.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.snp import SigningKey, TcbVersion
from policy.vocab import SnpProduct

PERMISSIONS = {
    "debug": "the host may decrypt guest memory",
    "migrate_ma": "a migration agent may move the guest",
    "smt": "sibling threads may run other code",
    "cxl_allow": "memory may lie behind CXL",
}
"""Guest-policy bits that weaken the guest: a policy sets a maximum."""

DEMANDS = {
    "single_socket": "the guest stays on one socket",
    "mem_aes_256_xts": "memory encryption is AES-256-XTS",
    "rapl_dis": "the power meter side channel is off",
    "ciphertext_hiding": "the host cannot read ciphertext",
    "page_swap_disable": "the host cannot move guest pages",
}
"""Guest-policy bits that strengthen the guest: a policy sets a minimum."""


@dataclass(frozen=True, slots=True)
class PlatformBit:
    """One PLATFORM_INFO bit: the claim's attribute, the words a policy may use, and why one would."""

    attribute: str
    words: tuple[str, ...]
    why: str


_MINIMUM, _EITHER = ("require", "ignore"), ("require", "forbid", "ignore")
PLATFORM_BITS = {
    "alias_check": PlatformBit(
        "alias_check_complete",
        _MINIMUM,
        "BadRAM (CVE-2024-21944, AMD-SB-3015) aliases memory through forged DIMM data",
    ),
    "ecc": PlatformBit("ecc_en", _MINIMUM, "error correction makes bit flipping in guest memory harder"),
    "tsme": PlatformBit("tsme_en", _EITHER, "memory of the host is encrypted as well; changes nothing for the guest"),
    "platform_rapl_dis": PlatformBit("rapl_dis", _MINIMUM, "the power meter tells about secrets (PLATYPUS)"),
    "platform_ciphertext_hiding": PlatformBit(
        "ciphertext_hiding", _MINIMUM, "ciphertext the host can read tells about changes (CipherLeaks, Heracles)"
    ),
    "iommu_write_safe": PlatformBit(
        "iommu_write_safe", _MINIMUM, "set by recent firmware; its name is from one source"
    ),
    "tio": PlatformBit("tio_en", _EITHER, "devices can be made part of the guest's trust (SEV-TIO)"),
}

TCBS = ("reported", "committed", "current", "launch")
"""The four TCB versions of a report, by the words ``applies_to`` uses."""


@dataclass(frozen=True, slots=True)
class MinimumTcb:
    """A floor for the TCB versions ``applies_to`` names. ``models`` and ``steppings`` are CPUID's, empty for all."""

    product: SnpProduct
    models: tuple[int, ...]
    steppings: tuple[int, ...]
    applies_to: tuple[str, ...]
    floor: TcbVersion
    reason: str


@dataclass(frozen=True, slots=True)
class FirmwareRule:
    """Floors for one product's firmware.

    Versions are (major, minor, build) and compared as such, never part by part: 1.58.0 is later than 1.55.29.
    Mitigation vectors are 64-bit masks; every bit set in the mask must be set in the report.
    """

    product: SnpProduct
    current: tuple[int, int, int] | None
    committed: tuple[int, int, int] | None
    launch_mitigations: int | None
    current_mitigations: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class CpuidPattern:
    """``family/model/stepping``, each an inclusive range; written decimal or 0x…, as one number, ``a-b`` or ``*``."""

    text: str
    family: tuple[int, int]
    model: tuple[int, int]
    stepping: tuple[int, int]

    def matches(self, family: int, model: int, stepping: int) -> bool:
        """Whether all three numbers are in range."""
        found = zip((family, model, stepping), (self.family, self.model, self.stepping), strict=True)
        return all(low <= value <= high for value, (low, high) in found)


@dataclass(frozen=True, slots=True, eq=False)
class SnpRules:
    """The ``[snp]`` table. Compared by identity, like the document it belongs to."""

    products: tuple[SnpProduct, ...]
    signing_keys: tuple[SigningKey, ...]
    report_version_min: int
    vmpl: tuple[int, ...]
    permissions: dict[str, bool]
    """Keys of :data:`PERMISSIONS`; True where allowed."""
    demands: dict[str, bool]
    """Keys of :data:`DEMANDS`; True where required."""
    platform: dict[str, bool | None]
    """Keys of :data:`PLATFORM_BITS`; the value the bit must have."""
    abi_min: tuple[int, int]
    unknown_platform_bits: bool
    """True where undefined PLATFORM_INFO bits are tolerated."""
    provisional_firmware: bool
    """True where firmware that is loaded but not committed is tolerated."""
    minimum_tcb: tuple[MinimumTcb, ...]
    firmware: tuple[FirmwareRule, ...]
    cpuids: tuple[CpuidPattern, ...] | None
    denied_cpuids: tuple[CpuidPattern, ...]
    guest_svn_min: int
    family_ids: tuple[bytes, ...] | None
    image_ids: tuple[bytes, ...] | None
    report_data: bytes | None
    report_ids: tuple[bytes, ...] | None
    migration_agents: tuple[bytes, ...] | None
    """REPORT_ID_MA values; ``()`` where no migration agent is accepted."""
    host_data: bytes | None
    id_key_digests: tuple[bytes, ...] | None
    author_key_digests: tuple[bytes, ...] | None
    chip_ids: tuple[bytes, ...] | None
    denied_chip_ids: tuple[bytes, ...]
    csp_ids: tuple[str, ...] | None
    """CSP ids of VLEKs; ``*`` stands for letters, digits and hyphens (one part of a host name)."""
    revocation: str
    """``good`` (only a checked, current CRL passes) or ``not-checked`` (absence or staleness is tolerated)."""

    def firmware_of(self, product: SnpProduct) -> FirmwareRule | None:
        """The firmware floors of ``product``; a valid document has one for each product it accepts."""
        return next((rule for rule in self.firmware if rule.product is product), None)

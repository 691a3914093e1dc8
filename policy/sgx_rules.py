"""The rules for SGX enclaves that an appraisal policy can hold, decoded. ``policy.sgx_table`` reads them from TOML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policy.intel_rules import PlatformRules, TcbRules


@dataclass(frozen=True, slots=True)
class Signer:
    """Enclaves of one signer: MRSIGNER (32 bytes), its product number, and the least security version."""

    mrsigner: bytes
    isvprodid: int
    isvsvn_min: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class SgxRules:
    """The ``[sgx]`` table, compared by identity like its document. ``None`` means left out; pairs are value and mask.

    An enclave is accepted by ``mrenclaves`` or by ``signers``; where both are empty none is.
    """

    NAME: ClassVar[str] = "sgx"

    quote_versions: tuple[int, ...]
    mrenclaves: tuple[bytes, ...]
    signers: tuple[Signer, ...]
    debug: bool
    """True where a debug enclave is tolerated."""
    provision_key: bool
    """True where an enclave with the provisioning keys is tolerated."""
    attributes: tuple[int, int] | None
    xfrm_allowed: int | None
    xfrm_required: int | None
    miscselect: tuple[int, int] | None
    configid: tuple[bytes, ...] | None
    configsvn_min: int
    isvextprodid: tuple[bytes, ...] | None
    isvfamilyid: tuple[bytes, ...] | None
    report_data: bytes | None
    platform: PlatformRules
    tcb: TcbRules

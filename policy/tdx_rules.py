"""The rules for TDX that an appraisal policy can hold, decoded. ``policy.tdx_table`` reads them from TOML.

Everywhere ``None`` means that the author wrote ``"ignore"`` or ``"any"``: a comparison left out by decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from policy.eventlog_rules import EventLogRules
from policy.intel_rules import PlatformRules, TcbRules
from policy.tdx import TdAttributes

BODIES = ("1.0", "1.5", "1.5-extended")


@dataclass(frozen=True, slots=True)
class AttributeBit:
    """One bit of ATTRIBUTES: its number, the words a policy may use, and why one would."""

    bit: int
    words: tuple[str, ...]
    why: str


_MAXIMUM, _MINIMUM, _EITHER = ("allow", "forbid"), ("require", "ignore"), ("require", "forbid", "ignore")
ATTRIBUTE_BITS = {
    "debug": AttributeBit(
        TdAttributes.DEBUG, _MAXIMUM, "the host may read and change everything; the quote of a debug TD is valid"
    ),
    "sept_ve_disable": AttributeBit(
        TdAttributes.SEPT_VE_DISABLE, _MINIMUM, "else the host can raise #VE in the guest by taking pages away"
    ),
    "migratable": AttributeBit(
        TdAttributes.MIGRATABLE, _MAXIMUM, "a migration TD may move the TD to a platform nobody judged"
    ),
    "servtd_ext": AttributeBit(
        TdAttributes.SERVTD_EXT, _MAXIMUM, "extensions for service TDs, which see into this one"
    ),
    "tpa": AttributeBit(TdAttributes.TPA, _MAXIMUM, "a provisioning agent for devices (TDX Connect), not a guest"),
    "icssd": AttributeBit(TdAttributes.ICSSD, _EITHER, "defence against counting instructions by single steps"),
    "perfmon": AttributeBit(
        TdAttributes.PERFMON, _EITHER, "performance counters in the TD: more to learn for a neighbour's side channel"
    ),
    "pks": AttributeBit(TdAttributes.PKS, _EITHER, "protection keys for the TD's own kernel"),
    "kl": AttributeBit(TdAttributes.KL, _EITHER, "Key Locker in the TD"),
    "lass": AttributeBit(TdAttributes.LASS, _EITHER, "linear address space separation in the TD"),
}
"""Bits of ATTRIBUTES with a rule of their own; the rest of the TUD byte and undefined bits have one rule each."""

EXTENDED_FIELDS = {
    "vmid": 1, "td_id": 32, "devinfo": 48, "init_servtd_hash": 48, "init_servtd_attr": 8, "init_cpusvn": 16,
    "init_tee_tcb_svn": 16, "init_tee_fmspc": 12, "cur_servtd_hash": 48, "cur_servtd_attr": 8,
}  # fmt: skip
"""Fields only body 1.5-extended has, with their bytes."""

REGISTERED, INIT_DATA = "registered", "init-data"
RegisterRule = str | tuple[bytes, ...] | None
"""What a RTMR must be: :data:`REGISTERED` (predicted by the reference value), one of a list, or anything (``None``);
RTMR3 also :data:`INIT_DATA`: zero, or extended by the init-data that MRCONFIGID is bound to and by nothing else.
"""


@dataclass(frozen=True, slots=True, eq=False)
class TdxRules:
    """The ``[tdx]`` table, compared by identity like its document. Byte strings are in wire order."""

    NAME: ClassVar[str] = "tdx"

    quote_versions: tuple[int, ...]
    bodies: tuple[str, ...]
    rtmrs: tuple[RegisterRule, RegisterRule, RegisterRule, RegisterRule]
    unlogged_registers: frozenset[int]
    """RTMRs that something in the guest extends without an event log; the verifier lets them differ from the log."""
    rtmr_reason: str
    """Why a register may hold anything; empty where none may."""
    mrconfigid: tuple[bytes, ...] | None
    mrowner: tuple[bytes, ...] | None
    mrownerconfig: tuple[bytes, ...] | None
    mrseam: tuple[bytes, ...] | None
    mrsignerseam: tuple[bytes, ...] | None
    seamattributes: tuple[int, int] | None
    """Value and mask."""
    mrservicetd: tuple[bytes, ...] | None
    attributes: tuple[int, int] | None
    """Value and mask."""
    bits: dict[str, bool | None]
    """Keys of :data:`ATTRIBUTE_BITS`; the value the bit must have."""
    untrusted: bool
    """True where bits 1 to 7 of the TUD byte are tolerated."""
    undefined_attributes: bool
    """True where bits of ATTRIBUTES this release does not know are tolerated."""
    xfam_allowed: int | None
    xfam_required: int | None
    tee_tcb_svn_min: tuple[bytes, ...] | None
    """Floors of 16 bytes; one is for the major version of the TDX module in its byte 1."""
    tee_tcb_svn2_min: tuple[bytes, ...] | None
    extended: dict[str, tuple[bytes, ...] | None]
    """Keys of :data:`EXTENDED_FIELDS` where body 1.5-extended is accepted, else empty."""
    report_data: bytes | None
    platform: PlatformRules
    tcb: TcbRules
    eventlog: EventLogRules | None

"""Rules about the platform under a quote, shared by the tables ``[tdx]`` and ``[sgx]``: which machine, how current.

``policy.intel_table`` reads them from TOML. Everywhere ``None`` means that the author wrote ``"ignore"`` or ``"any"``:
a comparison left out by decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import ClassVar, Protocol

from policy.tdx import TcbStatus

FLAGS = {
    "dynamic_platform": "packages may be added to a running platform (Intel registers them again)",
    "cached_keys": "platform root keys are kept by Intel, so that a changed platform can be provisioned again",
    "smt_enabled": "sibling threads may run other code",
}
"""Configuration flags of a PCK certificate of the platform CA: claim name, and what it means when set."""

SGX_TYPES = ("standard", "scalable", "scalable-with-integrity")
"""``PckClaims.sgx_type`` in words, by its number: who protects memory, and whether against a changed bit."""

UNLISTED_WORDS = ("refuse", "grace", "ignore")


@dataclass(frozen=True, slots=True)
class PlatformRules:
    """The ``platform`` table: which machine. Lists hold raw bytes: FMSPC 6, PPID and PIID 16, PCEID 2.

    ``flags`` has the keys of :data:`FLAGS`; True where the flag must be off. ``components_min`` are sixteen SVNs.
    """

    fmspcs: tuple[bytes, ...] | None
    denied_fmspcs: tuple[bytes, ...]
    ppids: tuple[bytes, ...] | None
    denied_ppids: tuple[bytes, ...]
    piids: tuple[bytes, ...] | None
    denied_piids: tuple[bytes, ...]
    pceids: tuple[bytes, ...] | None
    cas: tuple[str, ...]
    sgx_types: tuple[str, ...]
    flags: dict[str, bool]
    components_min: bytes | None
    pcesvn_min: int


@dataclass(frozen=True, slots=True)
class AllowedAdvisory:
    """One advisory that is tolerated through the day ``until`` (UTC), and why."""

    id: str
    until: date
    reason: str


@dataclass(frozen=True, slots=True)
class TcbRules:
    """The ``tcb`` table: how current the platform has to be.

    ``statuses``: those that are accepted, with ``None`` (without limit) or the days of grace, counted from
    ``TcbClaims.behind_since``. A status that is not a key is refused; ``Revoked`` never is one. ``unlisted`` is one of
    :data:`UNLISTED_WORDS`. ``revocation`` is ``good`` or ``not-checked`` (absence or staleness is tolerated).
    """

    statuses: dict[TcbStatus, int | None]
    unlisted: str
    advisories: tuple[AllowedAdvisory, ...]
    evaluation_number_min: int
    equal_evaluation_numbers: bool
    tcb_date_min: date | None
    qe_isvsvn_min: int
    collateral_margin: timedelta
    collateral_max_age: timedelta | None
    revocation: str


class IntelRules(Protocol):
    """What the tables ``[tdx]`` and ``[sgx]`` have in common; ``NAME`` is the table's."""

    NAME: ClassVar[str]

    @property
    def platform(self) -> PlatformRules:
        """Which machine."""

    @property
    def tcb(self) -> TcbRules:
        """How current."""

    @property
    def report_data(self) -> bytes | None:
        """A fixed REPORTDATA (64 bytes)."""

    @property
    def quote_versions(self) -> tuple[int, ...]:
        """Quote formats."""

"""Verified claims: what a signature by a trusted chip vouches for.

Parsed evidence and verified claims are different types. Only ``attest.verifier`` makes :class:`VerifiedClaims`, and
only that type is accepted by :func:`policy.decide.decide`: passing merely parsed evidence is a type error, and
constructing the class elsewhere is a ``TypeError`` at run time too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from policy.bits import Bits
from policy.measured import MeasuredEvent
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey, TcbVersion
from policy.tdx import SgxAttributes, TcbStatus, TdAttributes, Xfam
from policy.vocab import LaunchDigest, Platform, SnpProduct

AMD_ROOT, INTEL_ROOT = "amd", "intel"
_SEAL = object()
_AS_IT_IS = frozenset((int, str, bool, type(None)))


def verifier_seal() -> object:
    """The token :class:`VerifiedClaims` demands. For ``attest.verifier`` only; a test holds the tree to it."""
    return _SEAL


class SnpClaims(NamedTuple):
    """Fields of an ATTESTATION_REPORT (AMD 56860, table "ATTESTATION_REPORT Structure") whose signature verified.

    A tuple, because a frozen dataclass of so many fields takes ten times as long to make.

    Byte strings are in wire order. ``cpuid_*`` are ``None`` before report version 3, the mitigation vectors before
    version 5, ``csp_id`` unless a VLEK signed. ``root`` is ``"amd"`` or ``"test:<SHA-256 of the root's SPKI, hex>"``.
    ``revocation`` is ``good``, ``stale`` or ``not-checked``; a revoked chain never becomes claims.
    """

    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: TcbVersion
    platform_info: PlatformInfo
    key_info: KeyInfo
    report_data: bytes
    measurement: LaunchDigest
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: TcbVersion
    cpuid_fam_id: int | None
    cpuid_mod_id: int | None
    cpuid_step: int | None
    chip_id: bytes
    committed_tcb: TcbVersion
    current_build: int
    current_minor: int
    current_major: int
    committed_build: int
    committed_minor: int
    committed_major: int
    launch_tcb: TcbVersion
    launch_mit_vector: int | None
    current_mit_vector: int | None
    product: SnpProduct
    signing_key: SigningKey
    csp_id: str | None
    root: str
    revocation: str

    @property
    def emulated(self) -> bool:
        """Signed under a root that is not AMD's: the hardware was emulated."""
        return self.root != AMD_ROOT


class PckClaims(NamedTuple):
    """Which machine Intel certified, from the SGX extension of the PCK certificate (OID 1.2.840.113741.1.13.1).

    ``ca`` is ``platform`` or ``processor``. ``ppid`` (16 bytes) names the processor package, ``piid`` (16 bytes) the
    registered platform, ``None`` under the processor CA, like the three configuration flags. ``fmspc`` has 6 bytes,
    ``pceid`` 2, ``cpusvn`` 16; ``components`` are the sixteen SVNs of the TCB. ``sgx_type``: 0 standard, 1 scalable,
    2 scalable with integrity.
    """

    ca: str
    ppid: bytes
    piid: bytes | None
    fmspc: bytes
    pceid: bytes
    cpusvn: bytes
    components: tuple[int, ...]
    pcesvn: int
    sgx_type: int
    dynamic_platform: bool | None
    cached_keys: bool | None
    smt_enabled: bool | None


class TcbClaims(NamedTuple):
    """How current the platform is, judged as Intel's quote verification library does.

    ``status`` is the converged one, of which a policy speaks; the others are its parts: ``platform``, ``module`` (TDX
    only), ``qe``, and for TD report 1.5 ``running``, the platform with the module that runs now. ``tcb_date`` is the
    earliest date of the matched levels. ``behind_since`` is the date of the oldest level that is newer than what the
    platform has, from which a grace period counts; ``None`` where nothing newer is listed. ``advisory_ids`` are those
    of all matched levels, sorted. The evaluation data numbers are of TCB info and QE identity; ``evaluation_number`` is
    the smaller. ``expires`` is the earliest date on which any piece of the collateral ends. CRL numbers are ``None``
    where no list was at hand.
    """

    status: TcbStatus
    platform: TcbStatus
    module: TcbStatus | None
    qe: TcbStatus
    running: TcbStatus | None
    tcb_date: datetime
    behind_since: datetime | None
    advisory_ids: tuple[str, ...]
    tcb_info_number: int
    qe_identity_number: int
    issued: datetime
    expires: datetime
    pck_crl_number: int | None
    root_crl_number: int | None

    @property
    def evaluation_number(self) -> int:
        """The smaller tcbEvaluationDataNumber of TCB info and QE identity."""
        return min(self.tcb_info_number, self.qe_identity_number)


class QeClaims(NamedTuple):
    """The quoting enclave that signed, from its own report: SVN and header user data (20 bytes)."""

    isvsvn: int
    mrsigner: bytes
    user_data: bytes


class TdxClaims(NamedTuple):
    """Fields of a TD report (Intel *TDX DCAP Quoting Library API*, appendix A.3) in a quote that verified.

    A tuple, as :class:`SnpClaims` is and for the same reason.

    ``version`` is the quote's, 4 or 5; ``body`` is ``1.0``, ``1.5`` or ``1.5-extended``. Byte strings are in wire
    order. ``tee_tcb_svn2`` and ``mrservicetd`` are ``None`` in body 1.0. ``extended`` holds the further fields of body
    1.5-extended by name, hex. ``root`` is ``"intel"`` or ``"test:<SHA-256 of the root's SPKI, hex>"``. ``revocation``
    is ``good``, ``stale`` or ``not-checked``. ``events`` is the event log that replays to ``rtmrs``, ``None`` where
    none was sent: the verifier refuses a log that does not replay.
    """

    version: int
    body: str
    tee_tcb_svn: bytes
    mrseam: bytes
    mrsignerseam: bytes
    seamattributes: int
    td_attributes: TdAttributes
    xfam: Xfam
    mrtd: LaunchDigest
    mrconfigid: bytes
    mrowner: bytes
    mrownerconfig: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn2: bytes | None
    mrservicetd: bytes | None
    extended: tuple[tuple[str, str], ...]
    pck: PckClaims
    tcb: TcbClaims
    qe: QeClaims
    root: str
    revocation: str
    events: tuple[MeasuredEvent, ...] | None

    @property
    def emulated(self) -> bool:
        """Signed under a root that is not Intel's: the hardware was emulated."""
        return self.root != INTEL_ROOT


class SgxClaims(NamedTuple):
    """Fields of an SGX report body (Intel SDM volume 3D, table "REPORT") in a quote that verified; see TdxClaims."""

    version: int
    cpusvn: bytes
    miscselect: int
    attributes: SgxAttributes
    xfrm: Xfam
    mrenclave: bytes
    mrsigner: bytes
    isvextprodid: bytes
    isvprodid: int
    isvsvn: int
    isvfamilyid: bytes
    configid: bytes
    configsvn: int
    report_data: bytes
    pck: PckClaims
    tcb: TcbClaims
    qe: QeClaims
    root: str
    revocation: str

    @property
    def emulated(self) -> bool:
        """Signed under a root that is not Intel's."""
        return self.root != INTEL_ROOT


TeeClaims = SnpClaims | TdxClaims | SgxClaims


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """Claims of one verified report or quote."""

    platform: Platform
    tee: TeeClaims
    seal: object

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("verified claims are made by attest.verifier only")

    @property
    def snp(self) -> SnpClaims:
        """The claims of an SNP report; ``TypeError`` for any other evidence."""
        if not isinstance(self.tee, SnpClaims):
            raise TypeError(f"claims of {self.platform.value} are not those of an SNP report")
        return self.tee

    @property
    def tdx(self) -> TdxClaims:
        """The claims of a TD quote; ``TypeError`` for any other evidence."""
        if not isinstance(self.tee, TdxClaims):
            raise TypeError(f"claims of {self.platform.value} are not those of a TD quote")
        return self.tee

    @property
    def emulated(self) -> bool:
        """The chip was emulated; every output must say so."""
        return self.tee.emulated

    @property
    def revocation(self) -> str:
        """``good``, ``stale`` or ``not-checked``."""
        return self.tee.revocation

    @property
    def launch_digest(self) -> bytes:
        """What the hardware measured at launch: MEASUREMENT, MRTD (48 bytes) or MRENCLAVE (32)."""
        if isinstance(self.tee, SnpClaims):
            return self.tee.measurement
        return self.tee.mrtd if isinstance(self.tee, TdxClaims) else self.tee.mrenclave

    @property
    def host_binding(self) -> bytes:
        """What the host bound to the guest at launch: HOST_DATA (32 bytes), MRCONFIGID (48) or CONFIGID (64)."""
        if isinstance(self.tee, SnpClaims):
            return self.tee.host_data
        return self.tee.mrconfigid if isinstance(self.tee, TdxClaims) else self.tee.configid


def chip_name(claims: TeeClaims) -> str | None:
    """Lower-case hex of CHIP_ID or PPID; ``None`` where the host masks it (all zeros)."""
    found = claims.chip_id if isinstance(claims, SnpClaims) else claims.pck.ppid
    return found.hex() if any(found) else None


def claims_json(claims: TeeClaims) -> dict[str, object]:
    """Claims as JSON values: byte strings in lower-case hex, TCB versions as objects, enums by value or name."""
    return _members(claims)


def _members(record: Any) -> dict[str, object]:
    values = zip(record._fields, record, strict=True)
    return {name: value if type(value) in _AS_IT_IS else _json_value(value) for name, value in values}


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, TcbVersion):
        return value.parts()
    if isinstance(value, Bits):
        return hex(value)
    if isinstance(value, tuple):
        return _members(value) if hasattr(value, "_fields") else [_json_value(item) for item in value]
    if isinstance(value, SigningKey):
        return value.name
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return value

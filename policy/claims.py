"""Verified claims: what a signature by a trusted chip vouches for.

Parsed evidence and verified claims are different types. Only ``attest.verifier`` makes :class:`VerifiedClaims`, and
only that type is accepted by :func:`policy.decide.decide`: passing merely parsed evidence is a type error, and
constructing the class elsewhere is a ``TypeError`` at run time too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey, TcbVersion
from policy.vocab import LaunchDigest, Platform, SnpProduct

AMD_ROOT = "amd"
_SEAL = object()


def verifier_seal() -> object:
    """The token :class:`VerifiedClaims` demands. For ``attest.verifier`` only; a test holds the tree to it."""
    return _SEAL


@dataclass(frozen=True, slots=True)
class SnpClaims:
    """Fields of an ATTESTATION_REPORT (AMD 56860, table "ATTESTATION_REPORT Structure") whose signature verified.

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


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """Claims of one verified report; ``evidence_sha256`` is over the signed bytes 0x000..0x29F."""

    platform: Platform
    snp: SnpClaims
    evidence_sha256: bytes
    seal: object

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("verified claims are made by attest.verifier only")

    @property
    def emulated(self) -> bool:
        """The chip was emulated; every output must say so."""
        return self.snp.emulated


def claims_json(claims: SnpClaims) -> dict[str, object]:
    """Claims as JSON values: byte strings in lower-case hex, TCB versions as objects, enums by value or name."""
    return {field.name: _json_value(getattr(claims, field.name)) for field in fields(claims)}


def _json_value(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, TcbVersion):
        return value.parts()
    if isinstance(value, (GuestPolicy, PlatformInfo, KeyInfo)):
        return hex(value)
    if isinstance(value, SigningKey):
        return value.name
    if isinstance(value, SnpProduct):
        return value.value
    return value

"""Verified claims without a chip, for tests of what is decided from them."""

from __future__ import annotations

from typing import Any

from policy.claims import SnpClaims, VerifiedClaims, verifier_seal
from policy.snp import GuestPolicy, KeyInfo, PlatformInfo, SigningKey, TcbVersion
from policy.vocab import LaunchDigest, Platform, SnpProduct

TCB = TcbVersion(bootloader=10, tee=0, snp=24, microcode=84)

GOOD = SnpClaims(
    version=3,
    guest_svn=0,
    policy=GuestPolicy(0x30000),
    family_id=bytes(16),
    image_id=bytes(16),
    vmpl=0,
    current_tcb=TCB,
    platform_info=PlatformInfo(0x25),
    key_info=KeyInfo(0),
    report_data=bytes(64),
    measurement=LaunchDigest(b"\x11" * 48),
    host_data=bytes(32),
    id_key_digest=bytes(48),
    author_key_digest=bytes(48),
    report_id=b"\x01" * 32,
    report_id_ma=b"\xff" * 32,
    reported_tcb=TCB,
    cpuid_fam_id=0x19,
    cpuid_mod_id=0x11,
    cpuid_step=1,
    chip_id=b"\x22" * 64,
    committed_tcb=TCB,
    current_build=40,
    current_minor=55,
    current_major=1,
    committed_build=40,
    committed_minor=55,
    committed_major=1,
    launch_tcb=TCB,
    launch_mit_vector=None,
    current_mit_vector=None,
    product=SnpProduct.GENOA,
    signing_key=SigningKey.VCEK,
    csp_id=None,
    root="amd",
    revocation="good",
)


def verified(platform: Platform = Platform.SEV_SNP, **changes: Any) -> VerifiedClaims:
    """Claims of a healthy Genoa guest with ``changes``."""
    return VerifiedClaims(platform, GOOD._replace(**changes), verifier_seal())

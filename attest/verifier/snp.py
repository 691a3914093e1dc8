"""Is this SNP report genuine? Every check in order, each with its number; acceptance is decided elsewhere (policy).

     1 format        version 2..5, ECDSA P-384 with SHA-384, guest policy bit 17 set (sizes and reserved bytes: the
                     parser)
     2 vmpl          0..3; 0xFFFFFFFF means the *host* asked and chose REPORT_DATA: refused always
     3 signing-key   the report names VCEK or VLEK, and the leaf is of that kind
     4 product       CPUID (version 3 and later) and the leaf agree; before version 3 the verified chain alone decides
     5 root          } the chain, see attest.endorsement.amd: pinned root for the product, links, names, constraints;
     6 intermediate  }
     7 leaf          }
     8 validity      } all three certificates at `now`
     9 revocation    } the intermediate against the root's list; `stale` and `not-checked` are claims, not failures
    10 tcb           the leaf's TCB parts equal REPORTED_TCB
    11 chip-id       a VCEK's hwID equals CHIP_ID; a zero (masked) CHIP_ID under a VCEK is refused
    12 signature     the leaf's key signed bytes 0x000..0x29F as received
    13 binding       REPORT_DATA equals the expected 64 bytes, where the caller expects any

Deliberately *not* checked here, because genuine evidence may differ and a policy decides: debug, migration, the VMPL's
value, TCB floors, committed against current firmware, platform information, the launch digest, host data, undefined
policy bits. Steps 10 and 11 come before 12 only because they are cheap: nothing is believed until all have passed.
Source: AMD 56860, chapter 7.3; AMD 57230; RFC 9334, section 8.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from attest.endorsement.amd import walk_chain
from attest.endorsement.amd_cache import ChainCache
from attest.endorsement.amd_links import TrustedEndorsement
from attest.endorsement.anchors import TrustAnchors
from attest.endorsement.errors import VerificationFailed
from attest.endorsement.pool import EndorsementSet
from attest.evidence.amd_certificate import AmdCertificate
from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.product import product_of_report
from attest.evidence.snp_report import SIGNED_SIZE, SnpReport
from policy.claims import AMD_ROOT, SnpClaims, VerifiedClaims, verifier_seal
from policy.errors import MalformedInput
from policy.snp import GuestPolicy, SigningKey, TcbVersion
from policy.vocab import LaunchDigest, Platform, SnpProduct

_VERIFIED_VERSIONS = range(2, 6)
_ECDSA_P384_SHA384 = 1
_HOST_REQUESTED = 0xFFFFFFFF
_LAST_VMPL = 3
_REPORT_DATA_SIZE = 64


def verify_snp(
    report: SnpReport,
    endorsements: EndorsementSet,
    *,
    anchors: TrustAnchors,
    now: datetime,
    expected_report_data: bytes | None,
) -> VerifiedClaims:
    """Verify one report; see :meth:`SnpVerifier.verify`, which also remembers chains between reports."""
    return SnpVerifier(anchors).verify(report, endorsements, now=now, expected_report_data=expected_report_data)


@dataclass(frozen=True, slots=True)
class SnpVerifier:
    """Trust anchors and a memory of chains. One instance serves any number of reports and threads."""

    anchors: TrustAnchors
    cache: ChainCache = field(default_factory=ChainCache)

    def verify(
        self, report: SnpReport, endorsements: EndorsementSet, *, now: datetime, expected_report_data: bytes | None
    ) -> VerifiedClaims:
        """The claims of a genuine report.

        ``now`` is aware; ``expected_report_data`` is 64 bytes, or ``None`` for a caller that has nothing to bind to (an
        auditor without the nonce) and therefore cannot tell a fresh report from an old one. Where several leaves fit,
        one that verifies is enough. Raises :class:`VerificationFailed` with the furthest step reached,
        ``EndorsementMissing``, :class:`EvidenceUnsupported`, or ``TypeError``/``ValueError`` for misuse.
        """
        _check_arguments(now, expected_report_data)
        _check_format(report)
        _check_vmpl(report)
        _check_signing_key(report)
        _check_chip_named(report)
        product = product_of_report(report)
        # Before a certificate is missed for a TCB version that no key is for.
        stated = None if product is None else _Tcbs.of(report, product)
        failures: list[VerificationFailed] = []
        for leaf in endorsements.candidates(report, product):
            try:
                _check_leaf_fits(report, leaf, product)
                trusted = walk_chain(leaf, endorsements, self.anchors, now, self.cache)
                tcbs = stated or _Tcbs.of(report, leaf.product)
                _check_tcb(tcbs.reported, leaf)
                _check_chip_id(report, leaf)
                _check_signature(report, trusted)
                _check_binding(report, expected_report_data)
            except VerificationFailed as exc:
                failures.append(exc)
                continue
            return _claims(report, trusted, tcbs)
        raise max(failures, key=lambda failure: failure.number)


def _check_arguments(now: datetime, expected_report_data: bytes | None) -> None:
    if now.tzinfo is None:
        raise TypeError("verify wants an aware time")
    if expected_report_data is not None and len(expected_report_data) != _REPORT_DATA_SIZE:
        raise ValueError(f"expected REPORT_DATA has {len(expected_report_data)} bytes, want {_REPORT_DATA_SIZE}")


def _check_format(report: SnpReport) -> None:
    if report.version not in _VERIFIED_VERSIONS:
        raise EvidenceUnsupported(f"report: version {report.version} can be shown but not verified, want 2 to 5")
    if report.signature_algo != _ECDSA_P384_SHA384:
        raise EvidenceUnsupported(
            f"report: signature algorithm at 0x34 is {report.signature_algo}, want 1 (ECDSA P-384 with SHA-384)"
        )
    if not report.policy.bit(GuestPolicy.RESERVED_ONE):
        raise VerificationFailed("format", f"report: policy at 0x8 is 0x{report.policy:x}, want bit 17 set")


def _check_vmpl(report: SnpReport) -> None:
    if report.vmpl == _HOST_REQUESTED:
        raise VerificationFailed("vmpl", "report: vmpl at 0x30 is 0xffffffff: the host asked for it, not the guest")
    if report.vmpl > _LAST_VMPL:
        raise VerificationFailed("vmpl", f"report: vmpl at 0x30 is {report.vmpl}, want 0 to 3")


def _check_signing_key(report: SnpReport) -> None:
    if report.signing_key is SigningKey.NONE:
        raise VerificationFailed("signing-key", "report: signed by no key (the host masked the chip's key)")


def _check_chip_named(report: SnpReport) -> None:
    """Known before any certificate is looked for: no VCEK belongs to chip zero."""
    if report.signing_key is SigningKey.VCEK and not any(report.chip_id):
        raise VerificationFailed(
            "chip-id", "report: chip_id is zero (masked by the host), so no VCEK can be its own",
            hint="the host has to show the chip's id (MASK_CHIP_ID 0), or sign with a VLEK",
        )  # fmt: skip


def _check_leaf_fits(report: SnpReport, leaf: AmdCertificate, product: SnpProduct | None) -> None:
    if leaf.kind is not report.signing_key:
        raise VerificationFailed(
            "signing-key", f"report: signed by a {report.signing_key.name}, the certificate is a {leaf.role.value}"
        )
    if product is not None and product is not leaf.product:
        raise VerificationFailed(
            "product", f"report: CPUID says {product.value}, the certificate belongs to {leaf.product.value}"
        )


_REWRITTEN = "tools that rewrite reports can garble them (sev 6.1 did): take the bytes as the kernel gives them"


class _Tcbs(NamedTuple):
    """The report's four TCB versions in the layout of the product that the chain proved."""

    current: TcbVersion
    reported: TcbVersion
    committed: TcbVersion
    launch: TcbVersion

    @classmethod
    def of(cls, report: SnpReport, product: SnpProduct) -> _Tcbs:
        raw = (report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb)
        try:
            return _tcbs(raw, product)
        except MalformedInput as exc:
            raise EvidenceMalformed(f"report: {exc}", hint=_REWRITTEN) from None


# Machines of a fleet share a handful of TCB versions, and its guests a handful of images.
@lru_cache(maxsize=1024)
def _tcbs(raw: tuple[bytes, bytes, bytes, bytes], product: SnpProduct) -> _Tcbs:
    current, reported, committed, launch = (TcbVersion.from_bytes(item, product) for item in raw)
    return _Tcbs(current, reported, committed, launch)


_launch_digest = lru_cache(maxsize=1024)(LaunchDigest)


def _check_tcb(reported: TcbVersion, leaf: AmdCertificate) -> None:
    endorsed = None if leaf.amd is None else leaf.amd.tcb
    if endorsed != reported:
        raise VerificationFailed(
            "tcb", f"report: reported_tcb is {reported}, the {leaf.role.value} is issued for {endorsed}"
        )


def _check_chip_id(report: SnpReport, leaf: AmdCertificate) -> None:
    if leaf.chip_id is None:
        return  # a VLEK speaks for a cloud, not for a chip; its parser refuses one with a hwID
    if leaf.chip_id != report.chip_id:
        got, endorsed = report.chip_id[:16].hex(), leaf.chip_id[:16].hex()
        raise VerificationFailed("chip-id", f"report: chip_id is {got}…, the VCEK belongs to {endorsed}…")


def _check_signature(report: SnpReport, trusted: TrustedEndorsement) -> None:
    """Over the received bytes, never over a re-encoding; r and s are little-endian."""
    signature = encode_dss_signature(
        int.from_bytes(report.signature_r, "little"), int.from_bytes(report.signature_s, "little")
    )
    try:
        trusted.chain.key.verify(signature, hashlib.sha384(report.raw[:SIGNED_SIZE]).digest())
    except InvalidSignature:
        raise VerificationFailed(
            "signature", f"report: the signature at 0x2A0 does not verify under the {trusted.leaf.role.value}"
        ) from None


def _check_binding(report: SnpReport, expected: bytes | None) -> None:
    if expected is not None and not hmac.compare_digest(report.report_data, expected):
        raise VerificationFailed(
            "binding", f"report: report_data is {report.report_data.hex()}, want {expected.hex()}",
            hint="the report is an answer to another challenge, or was made for another key",
        )  # fmt: skip


def _claims(report: SnpReport, trusted: TrustedEndorsement, tcbs: _Tcbs) -> VerifiedClaims:
    leaf = trusted.leaf
    # Unpacked at once and put together in the order of the fields: taking each by its name would take longer than the
    # rest of this function.
    (
        _, version, guest_svn, policy, family_id, image_id, vmpl, _, _, platform_info, key_info, signing_key,
        report_data, measurement, host_data, id_key_digest, author_key_digest, report_id, report_id_ma, _,
        family, model, step, chip_id, _, current_build, current_minor, current_major,
        committed_build, committed_minor, committed_major, _, launch_vector, current_vector, _, _,
    ) = report  # fmt: skip
    claims = SnpClaims._make((
        version, guest_svn, policy, family_id, image_id, vmpl, tcbs.current, platform_info, key_info,
        report_data, _launch_digest(measurement), host_data, id_key_digest, author_key_digest, report_id, report_id_ma,
        tcbs.reported, family, model, step, chip_id, tcbs.committed, current_build, current_minor, current_major,
        committed_build, committed_minor, committed_major, tcbs.launch, launch_vector, current_vector,
        leaf.product, signing_key, None if leaf.amd is None else leaf.amd.csp_id, trusted.root_name,
        trusted.revocation,
    ))  # fmt: skip
    platform = Platform.SEV_SNP if trusted.root_name == AMD_ROOT else Platform.EMULATED_SNP
    return VerifiedClaims(platform, claims, verifier_seal())

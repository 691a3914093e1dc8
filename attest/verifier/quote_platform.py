"""Steps 2 to 6, 9 and 10 of :mod:`attest.verifier.quote`: the machine that vouches for an attestation key."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from attest.endorsement.errors import VerificationFailed
from attest.endorsement.intel import IntelAnchors, IntelCache, IntelChain
from attest.endorsement.intel_pool import IntelCollateral
from attest.endorsement.pck import platform_chain
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.intel_certificate import PCK_AUTHORITIES
from attest.evidence.p256 import SPKI_HEADER, P256Key, p256_key
from attest.evidence.quote import INTEL_QE_VENDOR, Quote
from attest.evidence.sgx_extension import SgxExtension
from attest.evidence.sgx_report import SgxReportBody
from policy.claims import PckClaims


@dataclass(frozen=True, slots=True)
class QuotingPlatform:
    """Certificate chain, attestation key and quoting enclave. No judgement about time.

    ``judged_by`` is all of it that a judgement looks at: the PCK certificate's digest and the QE report.
    """

    chain: IntelChain
    sgx: SgxExtension
    key: P256Key
    qe: SgxReportBody
    pck: PckClaims
    judged_by: bytes


def check_vendor(quote: Quote) -> None:
    """Step 2."""
    if quote.qe_vendor_id != INTEL_QE_VENDOR:
        raise VerificationFailed(
            "qe-vendor", f"quote: QE vendor {quote.qe_vendor_id.hex()}, want Intel's {INTEL_QE_VENDOR.hex()}"
        )


def platform_of(quote: Quote, pool: IntelCollateral, anchors: IntelAnchors, cache: IntelCache) -> QuotingPlatform:
    """Steps 3 to 6, 9 and 10. Raises as :meth:`attest.verifier.quote.QuoteVerifier.verify` does."""
    chain = platform_chain(quote, pool, anchors, cache)
    sgx = chain.leaf.sgx
    if sgx is None:
        raise TypeError("a PCK certificate without an SGX extension")
    if not chain.leaf.key.verifies(quote.qe_report_signature, quote.qe_report.sha256):
        raise VerificationFailed("qe-report", "quote: the QE report's signature does not verify under the PCK key")
    bound = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest() + bytes(32)
    if not hmac.compare_digest(quote.qe_report.report_data, bound):
        raise VerificationFailed(
            "qe-binding",
            f"quote: the QE vouches for {quote.qe_report.report_data.hex()}, the attestation key and its data give "
            f"{bound.hex()}",
        )
    ca = PCK_AUTHORITIES[chain.certificates[1].role]
    return QuotingPlatform(
        chain=chain,
        sgx=sgx,
        key=_attestation_key(quote),
        qe=quote.qe_report,
        pck=PckClaims(ca=ca, **sgx._asdict()),
        judged_by=chain.leaf.sha256 + quote.qe_report.raw,
    )


def _attestation_key(quote: Quote) -> P256Key:
    try:
        return p256_key(SPKI_HEADER + quote.attestation_key)
    except ValueError:
        raise EvidenceMalformed("quote: the attestation key is no point of P-256") from None

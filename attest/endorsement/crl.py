"""Revocation: what AMD's lists say about an intermediate certificate at a given time.

AMD revokes ASKs and ASVKs through a CRL that the ARK signs; single VCEKs are not revoked, their TCB version does that
job. Source: RFC 5280, sections 5 and 6.3; AMD 57230, section "CRL".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import ExtensionNotFound, KeyUsage

from attest.endorsement.errors import VerificationFailed
from attest.evidence.amd_certificate import AmdCertificate, AmdCrl

GOOD, STALE, NOT_CHECKED = "good", "stale", "not-checked"
SHA384 = hashes.SHA384()
PSS_SHA384_48 = padding.PSS(padding.MGF1(SHA384), 48)


CrlJudge = Callable[[AmdCrl, AmdCertificate], bool]
"""Whether a list is signed by a root: :func:`crl_signed_by`, or a memory of it."""


def revocation_status(
    intermediate: AmdCertificate, root: AmdCertificate, crls: Iterable[AmdCrl], now: datetime, signed: CrlJudge
) -> str:
    """``good``, ``stale`` (the newest list is past its next update) or ``not-checked`` (there is none).

    The newest list that ``root`` signed and that was issued not after ``now`` decides; lists that do not verify are
    passed over, as if they had not been sent. Raises :class:`VerificationFailed` (step ``revocation``) when any of them
    names the intermediate, stale or not: a revocation does not expire, and AMD publishes two lists for each root (for
    the keys of chips and of clouds), either of which may be the newer one.
    """
    status = NOT_CHECKED
    known = [crl for crl in crls if crl.product is root.product and crl.this_update <= now]
    for crl in sorted(known, key=lambda item: item.this_update, reverse=True):
        named = intermediate.parsed.serial_number in crl.revoked
        if (status != NOT_CHECKED and not named) or not signed(crl, root):
            continue  # the newest list said how current the answer is; an older one matters only if it revokes
        if named:
            raise VerificationFailed(
                "revocation",
                f"certificate {intermediate.subject_cn} serial 0x{intermediate.parsed.serial_number:x}: revoked by the "
                f"list of {root.subject_cn} issued {crl.this_update:%Y-%m-%d}",
            )
        status = STALE if crl.next_update is None or crl.next_update < now else GOOD
    return status


def crl_signed_by(crl: AmdCrl, root: AmdCertificate) -> bool:
    """Whether ``root`` may sign lists and signed this one. A list is a hint from anywhere: a bad one is no error."""
    key = root.parsed.public_key()
    if crl.parsed.issuer != root.parsed.subject or not crl.pss_sha384 or not isinstance(key, rsa.RSAPublicKey):
        return False
    try:
        if not root.parsed.extensions.get_extension_for_class(KeyUsage).value.crl_sign:
            return False
        key.verify(crl.parsed.signature, crl.parsed.tbs_certlist_bytes, PSS_SHA384_48, SHA384)
    except (ExtensionNotFound, InvalidSignature):
        return False
    return True

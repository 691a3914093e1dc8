"""Is this Azure vTPM evidence genuine and fresh? In order, after the report or quote beside it was verified:

     1 variable data  its hash is REPORT_DATA (done by the step "binding" of the report or quote); a TD's own TDREPORT,
                      which nobody here can verify, says the same as its quote
     2 key            the JSON names exactly one attestation key (HCLAkPub), RSA
     3 signature      that key signed the quote (RSASSA-PKCS1-v1_5, SHA-256)
     4 PCRs           SHA-256 over the 24 values is the quoted digest
     5 challenge      the quote's extraData is the expected value, where the caller expects any; from evidence version 2
                      the JSON's user-data begins with it too

The paravisor is Microsoft's and stands above the guest (VMPL 0, L1 of a TD): the launch digest measures the paravisor,
the PCRs measure the guest, and a TD's RTMRs stay zero. Source: Trustee, ``az-snp-vtpm``, ``az-tdx-vtpm``; TCG, *TPM
2.0 Library*, part 1, chapter "Attestation".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from attest.endorsement.errors import VerificationFailed
from attest.evidence.errors import EvidenceMalformed
from attest.evidence.hcl import HclBlob
from attest.evidence.td_report import TdReportBody
from attest.evidence.tdreport_struct import TdReportStruct
from attest.evidence.vtpm import VtpmEvidence
from policy.strictjson import strict_json

_KEY_NAME = "HCLAkPub"
_MIN_RSA_BITS = 2048


def verify_vtpm(evidence: VtpmEvidence, *, expected_challenge: bytes | None) -> None:
    """Verify the quote against variable data that the verified report vouches for.

    Raises :class:`VerificationFailed` (steps ``signature`` and ``binding``) and :class:`EvidenceMalformed`.
    """
    runtime = _variable_data(evidence.hcl)
    _check_same_td(evidence)
    quote = evidence.quote
    try:
        _attestation_key(runtime).verify(quote.signature, quote.message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise VerificationFailed("signature", f"TPM quote: its signature does not verify under {_KEY_NAME}") from None
    if not hmac.compare_digest(hashlib.sha256(b"".join(quote.pcrs)).digest(), quote.pcr_digest):
        raise VerificationFailed("signature", "TPM quote: the PCR values are not the ones that were quoted")
    if expected_challenge is None:
        return
    if not hmac.compare_digest(quote.extra_data, expected_challenge):
        raise VerificationFailed(
            "binding", f"TPM quote: extraData is {quote.extra_data.hex()}, want {expected_challenge.hex()}"
        )
    if evidence.version >= 2:
        _check_user_data(runtime, expected_challenge)


def verify_hcl_nonce(blob: HclBlob, expected: bytes) -> None:
    """For a blob without a quote: the ``user-data`` its paravisor was asked to include is ``expected``."""
    _check_user_data(_variable_data(blob), expected)


def _variable_data(blob: HclBlob) -> dict[str, object]:
    runtime = strict_json(blob.variable_data, "HCL variable data", error=EvidenceMalformed)
    if not isinstance(runtime, dict):
        raise EvidenceMalformed("HCL variable data: want a JSON object")
    return runtime


def _check_user_data(runtime: Mapping[str, object], expected: bytes) -> None:
    """The variable data's ``user-data`` (hexadecimal) is ``expected``, padded with zeros."""
    stated = runtime.get("user-data")
    if not isinstance(stated, str) or stated.lower() != expected.hex().ljust(len(stated), "0"):
        raise VerificationFailed(
            "binding", f"HCL variable data: user-data is {str(stated)[:128]}, want {expected.hex()}"
        )


def _check_same_td(evidence: VtpmEvidence) -> None:
    """Parts of two TDs put together are refused, even where only unverifiable bytes tell."""
    if evidence.td_quote is None:
        return
    body, report = evidence.td_quote.body, evidence.hcl.report
    if not isinstance(body, TdReportBody) or not isinstance(report, TdReportStruct):
        raise EvidenceMalformed("vTPM evidence: want a TD quote beside a TDREPORT")
    different = report.differences(body)
    if different:
        raise VerificationFailed("binding", f"HCL blob: its TDREPORT is not the quote's: {', '.join(different)} differ")


def _attestation_key(runtime: Mapping[str, object]) -> rsa.RSAPublicKey:
    keys = runtime.get("keys")
    listed = keys if isinstance(keys, list) else []
    found = [key for key in listed if isinstance(key, dict) and key.get("kid") == _KEY_NAME]
    if len(found) != 1 or found[0].get("kty") != "RSA":
        raise EvidenceMalformed(f"HCL variable data: {len(found)} RSA keys named {_KEY_NAME}, want one")
    try:
        key = rsa.RSAPublicNumbers(_number(found[0].get("e")), _number(found[0].get("n"))).public_key()
    except (ValueError, binascii.Error) as exc:
        raise EvidenceMalformed(f"HCL variable data: {_KEY_NAME}: {exc}") from None
    if key.key_size < _MIN_RSA_BITS:
        raise EvidenceMalformed(f"HCL variable data: {_KEY_NAME} has {key.key_size} bits, want {_MIN_RSA_BITS} or more")
    return key


def _number(value: object) -> int:
    if not isinstance(value, str) or len(value) > 2048:
        raise ValueError("want a base64url number")
    return int.from_bytes(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)), "big")

"""What the emulated TDX platform says of itself: TCB components, QE identity, module, and signed statements on them.

Values are those of a current fifth-generation Xeon in shape; every level here is UpToDate because there is no other
state an emulated platform could be in.
"""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from attest.emulator.td_pki import Validity, compact, signed_json
from attest.evidence.sgx_extension import SgxExtension

COMPONENTS = (7, 9, 3, 3, 3, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0)
PCESVN = 13
FMSPC = bytes.fromhex("ccffff000000")
"""No Intel platform's: collateral of the real world and of this one can never be mixed up."""
TEE_TCB_SVN = bytes([5, 1, 6, *bytes(13)])
QE_SVN, QE_PRODUCT = 8, 2
QE_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")
"""The signer of Intel's TD quoting enclave, which verifiers compare; the signature says whose it really is."""
QE_FIELDS: dict[str, int | bytes] = {
    "cpusvn": bytes(COMPONENTS), "attributes": 0x15, "xfrm": 0xE7, "mrsigner": QE_SIGNER, "isvprodid": QE_PRODUCT,
    "isvsvn": QE_SVN,
}  # fmt: skip
EXTENSION = SgxExtension(
    bytes(16), COMPONENTS, PCESVN, bytes(COMPONENTS), b"\0\0", FMSPC, 1, bytes(16), dynamic_platform=True,
    cached_keys=False, smt_enabled=True,
)  # fmt: skip
_EVALUATION = 20
_TCB_DATE = "2025-05-14T00:00:00Z"
_UP_TO_DATE = {"tcbDate": _TCB_DATE, "tcbStatus": "UpToDate"}


def tcb_info_json(key: ec.EllipticCurvePrivateKey, validity: Validity) -> bytes:
    """The TCB info of this platform's FMSPC, signed."""
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    levels = [{"tcb": {"isvsvn": TEE_TCB_SVN[0]}, **_UP_TO_DATE}]
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in COMPONENTS],
        "pcesvn": PCESVN,
        "tdxtcbcomponents": [{"svn": svn} for svn in TEE_TCB_SVN],
    }
    return signed_json("tcbInfo", compact({
        "id": "TDX", "version": 3, **_dates(validity), "fmspc": FMSPC.hex().upper(), "pceId": "0000", "tcbType": 0,
        "tcbEvaluationDataNumber": _EVALUATION,
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": levels}],
        "tcbLevels": [{"tcb": tcb, **_UP_TO_DATE}],
    }), key)  # fmt: skip


def qe_identity_json(key: ec.EllipticCurvePrivateKey, validity: Validity) -> bytes:
    """The identity of its quoting enclave, signed."""
    return signed_json("enclaveIdentity", compact({
        "id": "TD_QE", "version": 2, **_dates(validity), "tcbEvaluationDataNumber": _EVALUATION,
        "miscselect": "00" * 4, "miscselectMask": "FF" * 4,
        "attributes": "11" + "00" * 15, "attributesMask": "FB" + "FF" * 7 + "00" * 8,
        "mrsigner": QE_SIGNER.hex().upper(), "isvprodid": QE_PRODUCT,
        "tcbLevels": [{"tcb": {"isvsvn": QE_SVN}, **_UP_TO_DATE}],
    }), key)  # fmt: skip


def _dates(validity: Validity) -> dict[str, Any]:
    form = "%Y-%m-%dT%H:%M:%SZ"
    return {"issueDate": validity.start.strftime(form), "nextUpdate": validity.end.strftime(form)}

"""The root of the attestation program's errors.

``kind`` keeps three failures apart everywhere (exit codes, HTTP statuses, audit records): *the guest is bad*,
*collateral or storage is unavailable*, *our own bug or misconfiguration*.
"""

from __future__ import annotations

from typing import Literal

from policy.errors import CvmError

Kind = Literal["guest", "unavailable", "internal"]


class AttestError(CvmError):
    """Something the attestation program refuses or could not do; ``kind`` says whose fault it is."""

    code = "attest.error"
    kind: Kind = "internal"

"""Fuzz target: one of Intel's certificates, lists or SGX extensions parses completely, or is refused with our error."""

from __future__ import annotations

from attest.evidence.intel_certificate import IntelCertificate, IntelCrl
from attest.evidence.sgx_extension import parse_sgx_extension
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Every reader gets the same bytes; what is accepted keeps them."""
    for read in (IntelCertificate.parse, IntelCrl.parse):
        try:
            if read(data).der != data:
                raise RuntimeError("accepted something that is not what was read")
        except MalformedInput:
            continue
    try:
        parse_sgx_extension(data)
    except MalformedInput:
        return

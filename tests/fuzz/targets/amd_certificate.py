"""Fuzz target: certificates and lists parse, or are refused with our error, whatever they are wrapped in."""

from __future__ import annotations

from attest.evidence.amd_certificate import AmdCertificate, AmdCrl
from attest.evidence.collateral_file import read_collateral_file
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """A collateral file never raises; an accepted leaf has a key and a TCB."""
    try:
        certificate = AmdCertificate.parse(data)
    except MalformedInput:
        pass
    else:
        if certificate.amd is not None:
            certificate.amd.tcb.to_bytes()
            len(certificate.spki)
    try:
        AmdCrl.parse(data)
    except MalformedInput:
        pass
    read_collateral_file(data)

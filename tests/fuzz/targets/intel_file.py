"""Fuzz target: any file is searched for Intel's things without another error; what is found is parsed completely."""

from __future__ import annotations

from attest.evidence.intel_file import read_intel_file


def one(data: bytes) -> None:
    """Documents carry their 64-byte signature, whatever they came in."""
    found = read_intel_file(data)
    signatures = [item.signature for item in found.tcb_infos] + [item.signature for item in found.qe_identities]
    if any(len(signature) != 64 for signature in signatures):
        raise RuntimeError("a document without a signature")

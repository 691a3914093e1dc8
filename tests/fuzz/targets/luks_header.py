"""Fuzz target: a LUKS2 header is accepted only if it is of the profile, and refused with our error otherwise.

Input that begins with ``{`` is put into binary headers with correct checksums, so that the JSON checks are reached.
"""

from __future__ import annotations

from policy.errors import CvmError
from policy.luks_header import check_luks_header
from tests.fakes.luks import HEADER_BYTES, header


def one(data: bytes) -> None:
    """Feed one input; an accepted header must name the profile's cipher twice and no other."""
    if data[:1] == b"{" and len(data) <= HEADER_BYTES - 4096:
        data = header(data)
    try:
        check_luks_header(data)
    except CvmError:
        return
    if data[:HEADER_BYTES].count(b"aes-xts-plain64") != 2 or b"null" in data[4096:HEADER_BYTES]:
        raise RuntimeError("a header off the profile was accepted")

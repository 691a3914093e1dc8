"""Evidence through ``/dev/sev-guest``: the ioctl SNP_GET_EXT_REPORT, for kernels without configfs-tsm.

Structures (Linux UAPI ``linux/sev-guest.h``, native little-endian)::

    snp_guest_request_ioctl  32 bytes  msg_version u8, pad 7, req_data u64, resp_data u64, fw_error u32, vmm_error u32
    snp_ext_report_req      112 bytes  user_data 64, vmpl u32, reserved 28, certs_address u64, certs_len u32, pad 4
    snp_report_resp        4000 bytes  status u32, report_size u32, reserved 24, report

The data are pointers inside the first structure, not inline.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from attest.attester.errors import EvidenceUnavailable
from attest.attester.raw_evidence import MAX_CERTIFICATES, RawEvidence, SourceAbsent

DEVICE = "/dev/sev-guest"
SNP_GET_EXT_REPORT = 0xC0205302  # _IOWR('S', 0x2, struct snp_guest_request_ioctl)
VMM_ERR_INVALID_LEN = 1
RESPONSE_BYTES = 4000
REPORT_BYTES = 1184
_PAGE = 4096


class GuestRequest(NamedTuple):
    """One call's outcome: the response buffer, the certificate buffer, and what the VMM or the firmware complained
    of.
    """

    response: bytes
    certificates: bytes
    fw_error: int
    vmm_error: int
    wanted_bytes: int
    errno: int


Call = Callable[[bytes, int], GuestRequest]


def sev_guest_report(report_data: bytes, device: str = DEVICE) -> RawEvidence:
    """Report and certificate table for ``report_data``."""
    try:
        fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise SourceAbsent(f"{device}: {exc.strerror}") from None
    try:
        return extended_report(report_data, lambda data, room: _ioctl(fd, data, room))
    finally:
        os.close(fd)


def extended_report(report_data: bytes, call: Call) -> RawEvidence:
    """Ask with room for 16 KiB of certificates and once more with the room the host asks for."""
    outcome = call(report_data, 4 * _PAGE)
    if outcome.errno and outcome.vmm_error == VMM_ERR_INVALID_LEN:
        if not 0 < outcome.wanted_bytes <= MAX_CERTIFICATES:
            raise EvidenceUnavailable(f"sev-guest: host wants {outcome.wanted_bytes} bytes for certificates")
        outcome = call(report_data, -(-outcome.wanted_bytes // _PAGE) * _PAGE)
    if outcome.errno:
        raise EvidenceUnavailable(
            f"sev-guest: {os.strerror(outcome.errno)}"
            f" (firmware error 0x{outcome.fw_error:x}, VMM error 0x{outcome.vmm_error:x})"
        )
    status, size = struct.unpack_from("<II", outcome.response)
    if status or size != REPORT_BYTES:
        raise EvidenceUnavailable(
            f"sev-guest: firmware status 0x{status:x}, report of {size} bytes, want 0 and {REPORT_BYTES}"
        )
    table = outcome.certificates if any(outcome.certificates[:16]) else b""
    return RawEvidence(outcome.response[32 : 32 + REPORT_BYTES], table, "sev-guest")


def _ioctl(fd: int, report_data: bytes, room: int) -> GuestRequest:
    certificates = ctypes.create_string_buffer(room)
    request = ctypes.create_string_buffer(
        struct.pack("<64sI28xQI4x", report_data, 0, ctypes.addressof(certificates), room), 112
    )
    response = ctypes.create_string_buffer(RESPONSE_BYTES)
    message = bytearray(struct.pack("<B7xQQII", 1, ctypes.addressof(request), ctypes.addressof(response), 0, 0))
    errno = 0
    try:
        fcntl.ioctl(fd, SNP_GET_EXT_REPORT, message)
    except OSError as exc:
        errno = exc.errno or 5
    fw_error, vmm_error = struct.unpack_from("<II", message, 24)
    (wanted,) = struct.unpack_from("<I", request.raw, 104)
    return GuestRequest(response.raw, certificates.raw, fw_error, vmm_error, wanted, errno)

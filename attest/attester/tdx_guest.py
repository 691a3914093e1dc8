"""Evidence of a TD through ``/dev/tdx_guest``, for kernels without configfs-tsm (Linux 6.2 to 6.6, or built so).

The device gives a TDREPORT, which only the same machine can check; the host's quoting service turns it into a quote.

    tdx_report_req   1088 bytes   REPORTDATA 64, TDREPORT 1024

Source: Linux UAPI ``linux/tdx-guest.h``, TDX_CMD_GET_REPORT0. A second ioctl, for quotes (TDX_CMD_GET_QUOTE), is in
vendors' older kernels only, never in Linux, and is not asked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from attest.attester.ccel import CCEL, event_log
from attest.attester.errors import EvidenceUnavailable
from attest.attester.qgs import Connect, connect_to_host, quote_of
from attest.attester.raw_evidence import REPORT_DATA_BYTES, TDX, RawEvidence, SourceAbsent

DEVICE = Path("/dev/tdx_guest")
GET_REPORT0 = 0xC4405401  # _IOWR('T', 1, struct tdx_report_req)
TDREPORT_BYTES = 1024
_TDREPORT_TYPE, _REPORT_DATA_AT = 0x81, 128
_MRCONFIGID_AT, _MRCONFIGID_BYTES = 512 + 64, 48  # TDINFO: ATTRIBUTES, XFAM, MRTD, MRCONFIGID

Ioctl = Callable[[int, int, bytearray], object]


def tdx_guest_quote(
    report_data: bytes,
    device: Path = DEVICE,
    ccel: Path = CCEL,
    ioctl: Ioctl = fcntl.ioctl,
    connect: Connect = connect_to_host,
) -> RawEvidence:
    """A quote for ``report_data`` and the event log; :class:`SourceAbsent` without the device or without vsock."""
    quote = quote_of(_tdreport(report_data, device, ioctl), connect)
    return RawEvidence(quote, b"", "tdx_guest", TDX, event_log(ccel))


def own_mrconfigid(device: Path = DEVICE, ioctl: Ioctl = fcntl.ioctl) -> bytes:
    """MRCONFIGID, 48 bytes, as the TDX module itself says it: no quoting service, and so no host, has a word in it."""
    report = _tdreport(os.urandom(REPORT_DATA_BYTES), device, ioctl)
    return report[_MRCONFIGID_AT : _MRCONFIGID_AT + _MRCONFIGID_BYTES]


def _tdreport(report_data: bytes, device: Path, ioctl: Ioctl) -> bytes:
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise SourceAbsent(f"{device}: {exc.strerror}") from None
    request = bytearray(report_data.ljust(REPORT_DATA_BYTES, b"\0") + bytes(TDREPORT_BYTES))
    try:
        ioctl(handle, GET_REPORT0, request)
    except OSError as exc:
        raise EvidenceUnavailable(f"{device}: {exc.strerror}") from None
    finally:
        os.close(handle)
    report = bytes(request[REPORT_DATA_BYTES:])
    about = report[_REPORT_DATA_AT : _REPORT_DATA_AT + REPORT_DATA_BYTES]
    if report[0] != _TDREPORT_TYPE or about != report_data:
        raise EvidenceUnavailable(
            f"{device}: TDREPORT of type 0x{report[0]:x} about {about[:8].hex()}…, want 0x81, {report_data[:8].hex()}…"
        )
    return report

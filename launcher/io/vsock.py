"""The kernel's side of a VM's vsock device, with an address nobody else has: found by trying, as only the kernel knows.

Source: Linux ``include/uapi/linux/vhost.h`` (VHOST_VSOCK_SET_GUEST_CID); it answers EADDRINUSE for a taken address.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

from launcher.core.network import FIRST_CID, LAST_CID
from launcher.io.iproute import NetworkRefused

DEVICE = "/dev/vhost-vsock"
_SET_GUEST_CID = 0x4008AF60
TRIES = 64

Ioctl = Callable[[int, int, bytes], object]


def open_vsock(wanted: int, *, exactly: bool, device: str = DEVICE, ioctl: Ioctl = fcntl.ioctl) -> tuple[int, int]:
    """(descriptor, address). ``exactly``: no other than ``wanted`` will do. Raises :class:`NetworkRefused`."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        hint = "modprobe vhost_vsock" if exc.errno == errno.ENOENT else f"setfacl -m u:$USER:rw {device}"
        raise NetworkRefused(f"vsock: {device}: {exc.strerror}", hint=hint) from None
    try:
        return descriptor, _claim(descriptor, wanted, 1 if exactly else TRIES, ioctl)
    except BaseException:
        os.close(descriptor)
        raise


def _claim(descriptor: int, wanted: int, tries: int, ioctl: Ioctl) -> int:
    span = LAST_CID - FIRST_CID + 1
    for number in range(tries):
        cid = FIRST_CID + (wanted - FIRST_CID + number) % span
        try:
            ioctl(descriptor, _SET_GUEST_CID, struct.pack("=Q", cid))
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                raise NetworkRefused(f"vsock.cid: {cid}: {exc.strerror}") from None
            continue
        return cid
    raise NetworkRefused(f"vsock.cid: {wanted} is another VM's" + (f", and {tries - 1} after it" if tries > 1 else ""))

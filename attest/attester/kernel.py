"""The three system calls Python does not offer: mount(2), umount2(2), reboot(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MNT_DETACH = 2
RB_POWER_OFF = 0x4321FEDC  # linux/reboot.h, LINUX_REBOOT_CMD_POWER_OFF


def mount(source: Path, target: Path, kind: str, flags: int, options: str) -> None:
    """mount(2); raises OSError."""
    _call("mount", os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())


def unmount(target: Path) -> None:
    """umount2(2) with MNT_DETACH; raises OSError."""
    _call("umount2", os.fsencode(target), ctypes.c_int(MNT_DETACH))


def power_off() -> None:
    """Write everything out and power off. Returns only when the kernel refuses (OSError)."""
    os.sync()
    _call("reboot", ctypes.c_int(RB_POWER_OFF))


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))

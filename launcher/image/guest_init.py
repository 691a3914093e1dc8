"""The guest's ``/init``: mount the kernel's file systems, load the listed modules, hand over to the agent.

Runs as PID 1 inside the measured initrd (Python 3.13, nothing else running) and nowhere else; the builder compiles it
into the image as the module ``cvm_init``. It imports as little as possible because every import costs boot time.
Should the agent ever return or raise, the machine powers off: a kernel panic would say less.
"""

from __future__ import annotations

import ctypes
import errno
import os
import runpy

AGENT = "attest.attester.init"
MODULE_LIST = "/usr/lib/cvm/modules"
SITE = "/usr/lib/python3/dist-packages"

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
RB_POWER_OFF = 0x4321FEDC
# A module whose hardware is absent says one of these; sev-guest and tdx-guest never both load.
HARDWARE_ABSENT = frozenset((errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP, errno.EEXIST))

MOUNTS = (
    ("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755"),
    ("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755"),
    ("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777"),  # noqa: S108  the guest's own, empty at boot
)
# After the modules: configfs is one of them. The log of an emulated TD's TPM is in securityfs.
LATE_MOUNTS = (
    ("configfs", "/sys/kernel/config", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
    ("securityfs", "/sys/kernel/security", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""),
)

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    # The legacy provider of OpenSSL is not in the image; without this, cryptography refuses to be imported.
    "CRYPTOGRAPHY_OPENSSL_NO_LEGACY": "1",
    # There is no udev: device-mapper must make its device nodes itself and not wait.
    "DM_DISABLE_UDEV": "1",
}


def mount(kind: str, target: str, flags: int, options: str) -> None:
    """mount(2). Raises OSError."""
    os.makedirs(target, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def load_module(path: str) -> None:
    """finit_module(2). Raises OSError, except when the module's hardware is absent."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.syscall(313, ctypes.c_int(descriptor), b"", ctypes.c_int(0)) != 0:
            number = ctypes.get_errno()
            if number not in HARDWARE_ABSENT:
                raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def load_modules() -> None:
    """Every module of the list in its order; one that fails is named on the console and the boot goes on."""
    with open(MODULE_LIST) as listing:  # noqa: PTH123  pathlib is not worth its import here
        paths = listing.read().split()
    for path in paths:
        try:
            load_module(path)
        except OSError as error:
            os.write(2, f"init: {error}\n".encode())


def main() -> None:
    """Never returns."""
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    try:
        for arguments in MOUNTS:
            mount(*arguments)
        # The kernel makes the root of the initial file system writable for everybody.
        os.chmod("/", 0o755)  # noqa: S103
        load_modules()
        for arguments in LATE_MOUNTS:
            mount(*arguments)
        runpy.run_module(AGENT, run_name="__main__", alter_sys=True)
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(ctypes.c_int(RB_POWER_OFF))

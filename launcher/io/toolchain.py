"""Find a QEMU that is new enough, with the firmware for confidential guests. :mod:`launcher.io.toolchain_fetch` fetches
one when the system has none; apart, for what it needs would slow every launch.

Wanted: QEMU 10.1 or newer (it hands the firmware the kernel file unpatched, which the measured direct boot needs) and
``OVMF.amdsev.fd``. Debian 12 and 13 have neither, so the packages of a later Debian are unpacked below the cache and
run through their own dynamic loader: nothing is installed, no chroot, no root. Measured: 52 MB, 4 s to unpack on 2
cores.
"""

from __future__ import annotations

import os

from launcher.core.facts import MODULES, TOOLS, VIRTIOFSD, VIRTIOFSD_PATH
from launcher.io.cachedir import cache_place
from launcher.io.which import which
from policy import plain_json
from policy.errors import CvmError
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from launcher.io.sysfs import AnyPath

MINIMUM_QEMU: Final = (10, 1)
FIRMWARE_FILE: Final = "OVMF.amdsev.fd"
STORAGE_PACKAGES: Final = ("qemu-block-extra", "qemu-utils", "virtiofsd")
"""RBD, iSCSI, NFS; the storage daemon and qemu-img; folders in VMs. Measured: 15 MB more to download, 51 MB on disk,
1.5 s to unpack, so they are fetched only when asked for.
"""
TOOLCHAIN_PACKAGES: Final = ("qemu-system-x86", "ovmf-amdsev", "ovmf-inteltdx", "ovmf-generic", "seabios", "ipxe-qemu")

BINARY_NAME: Final = "qemu-system-x86_64"
SYSTEM_FIRMWARE: Final = "/usr/share/ovmf"
SYSTEM_DESCRIPTORS: Final = "/usr/share/qemu/firmware"
_SYSTEM_MODULES: Final = "/usr/lib/x86_64-linux-gnu/qemu"
SCHEMA: Final = "cvm.toolchain/1"


class ToolchainMissing(CvmError):
    """No usable QEMU or firmware on this machine."""

    code = "toolchain.missing"


class Toolchain(NamedTuple):
    """How to start QEMU: ``(*qemu_argv, *options)`` with ``env`` added to the environment.

    ``version`` is QEMU's own, such as ``11.1.2``. ``firmware_dir`` holds ``OVMF.amdsev.fd``; ``descriptor_dir`` QEMU's
    firmware descriptors (JSON), whose file names are absolute paths of an installed system. ``source`` is ``system`` or
    ``cache``.
    """

    qemu_argv: tuple[str, ...]
    env: dict[str, str]
    version: str
    firmware_dir: str
    descriptor_dir: str
    source: str

    @property
    def binary(self) -> str:
        """QEMU's own file, whatever starts it."""
        words = self.qemu_argv[: self.qemu_argv.index("-L")] if "-L" in self.qemu_argv else self.qemu_argv
        return words[-1]


def find_toolchain(cache: AnyPath | None = None) -> Toolchain:
    """The system's QEMU and firmware when both are good enough, else the fetched ones.

    ``cache`` is the cache folder (``None``: `launcher.io.cachedir.cache_place`). Nothing is downloaded.
    Raises ToolchainMissing, which says what was found.
    """
    reason = system_toolchain()
    if isinstance(reason, Toolchain):
        return reason
    fetched = fetched_toolchain(toolchain_folder(cache))
    if fetched is not None:
        return fetched
    raise ToolchainMissing(
        f"QEMU {'.'.join(map(str, MINIMUM_QEMU))} or newer with {FIRMWARE_FILE}: {reason}; none fetched yet",
        hint="run `cvm image toolchain`, or install newer packages of qemu-system-x86 and ovmf-amdsev",
    )


def has_storage(tools: Toolchain) -> bool:
    """Whether a fetched toolchain has :data:`STORAGE_PACKAGES`; of a system's own nothing is claimed."""
    if tools.source != "cache":
        return False
    wanted = (f"{tools.env['QEMU_MODULE_DIR']}/block-rbd.so", f"{tools.firmware_dir}/../../libexec/virtiofsd")
    return all(os.path.isfile(path) for path in wanted)


def toolchain_folder(cache: AnyPath | None) -> str:
    """Where a fetched toolchain lies; ``None`` is this process's cache folder."""
    return f"{cache_place() if cache is None else cache}/toolchain"


def system_toolchain() -> Toolchain | str:
    """The system's toolchain, or the reason why it cannot be used."""
    binary = which(BINARY_NAME)
    if binary is None:
        return f"{BINARY_NAME} is not installed"
    version = version_of((binary,), {})
    if parse_version(version) < MINIMUM_QEMU:
        return f"{binary} is {version}"
    if not os.path.isfile(f"{SYSTEM_FIRMWARE}/{FIRMWARE_FILE}"):
        return f"{SYSTEM_FIRMWARE}/{FIRMWARE_FILE} is missing"
    return Toolchain((binary,), {}, version, SYSTEM_FIRMWARE, SYSTEM_DESCRIPTORS, "system")


def parse_version(text: str) -> tuple[int, ...]:
    """``11.1.2`` -> ``(11, 1, 2)``; text that is not a version gives ``()``, which is older than everything."""
    digits = text[: len(text) - len(text.lstrip("0123456789."))].partition("..")[0].rstrip(".").split(".")
    return tuple(int(part) for part in digits) if len(digits) > 1 and all(digits) else ()


def version_of(argv: tuple[str, ...], env: dict[str, str]) -> str:
    """QEMU's version as it says itself; an empty string when it does not start."""
    import subprocess

    try:
        done = subprocess.run(
            (*argv, "--version"), env=env or None, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return ""
    import re

    match = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    return match.group(1) if match else ""


def fetched_toolchain(home: str) -> Toolchain | None:
    """The fetched toolchain, or ``None`` when there is none or it was made for another package list."""
    try:
        with open(f"{home}/toolchain.json", encoding="utf-8") as file:  # noqa: PTH123  pathlib costs start-up time
            described = plain_json.loads(file.read())
    except (OSError, ValueError):
        return None
    if described.get("schema") != SCHEMA or set(TOOLCHAIN_PACKAGES) - set(described.get("wanted", ())):
        return None
    share = f"{home}/usr/share"
    if (
        not os.path.isfile(f"{share}/ovmf/{FIRMWARE_FILE}")
        or parse_version(described.get("version", "")) < MINIMUM_QEMU
    ):
        return None
    return Toolchain(
        private_argv(home), private_env(home), described["version"], f"{share}/ovmf", f"{share}/qemu/firmware", "cache"
    )


def private_argv(home: str) -> tuple[str, ...]:
    """How QEMU unpacked in ``home`` is started: by its own loader, with its own libraries."""
    libraries, share = f"{home}/usr/lib/x86_64-linux-gnu", f"{home}/usr/share"
    # librbd keeps its own library in a folder that it names by the absolute path of an installed system
    path = f"{libraries}:{libraries}/ceph" if os.path.isdir(f"{libraries}/ceph") else libraries
    return (
        f"{libraries}/ld-linux-x86-64.so.2", "--inhibit-cache", "--library-path", path,
        f"{home}/usr/bin/{BINARY_NAME}", "-L", f"{share}/qemu", "-L", f"{share}/seabios",
    )  # fmt: skip


def private_env(home: str) -> dict[str, str]:
    """What its environment must have."""
    return {"QEMU_MODULE_DIR": f"{home}/usr/lib/x86_64-linux-gnu/qemu"}


def qemu_extras(tools: Toolchain) -> frozenset[str]:
    """Those of `launcher.core.facts.EXTRAS` that are there."""
    binaries = os.path.dirname(tools.binary)
    modules = tools.env.get("QEMU_MODULE_DIR", _SYSTEM_MODULES)
    found = [name for name in TOOLS if os.path.exists(f"{binaries}/{name}")]
    found += [name for name in MODULES if os.path.exists(f"{modules}/block-{name}.so")]
    found += [VIRTIOFSD] if os.path.exists(f"{binaries}/{VIRTIOFSD_PATH}") else []
    return frozenset(found)

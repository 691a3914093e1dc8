"""Find a QEMU that is new enough, with the firmware for confidential guests; fetch one when the system has none.

Wanted: QEMU 10.1 or newer (it hands the firmware the kernel file unpatched, which the measured direct boot needs) and
``OVMF.amdsev.fd``. Debian 12 and 13 have neither, so the packages of a later Debian are unpacked below the cache and
run through their own dynamic loader: nothing is installed, no chroot, no root. Measured: 52 MB, 4 s to unpack on 2
cores.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from launcher.core.debian import Package, Suite
from launcher.io.apt import AptFolder, Progress
from launcher.io.cachedir import cache_folder, exclusive, staged
from launcher.io.mirrors import FetchFailed
from policy.errors import CvmError

MINIMUM_QEMU: Final = (10, 1)
FIRMWARE_FILE: Final = "OVMF.amdsev.fd"
# A testing release's index is short-lived; on a frozen mirror it is past its date although its signature is good.
TOOLCHAIN_SUITE: Final = Suite("forky", allow_expired=True)
STORAGE_PACKAGES: Final = ("qemu-block-extra", "qemu-utils")
"""RBD, iSCSI, NFS; the storage daemon and qemu-img. Measured: 14 MB more to download, 48 MB on disk, 1.5 s to unpack,
so they are fetched only when asked for.
"""
TOOLCHAIN_PACKAGES: Final = ("qemu-system-x86", "ovmf-amdsev", "ovmf-inteltdx", "ovmf-generic", "seabios", "ipxe-qemu")

_SYSTEM_BINARY: Final = "qemu-system-x86_64"
_SYSTEM_FIRMWARE: Final = Path("/usr/share/ovmf")
_UNNEEDED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/icons")
_SCHEMA: Final = "cvm.toolchain/1"


class ToolchainMissing(CvmError):
    """No usable QEMU or firmware on this machine."""

    code = "toolchain.missing"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """How to start QEMU: ``(*qemu_argv, *options)`` with ``env`` added to the environment.

    ``version`` is QEMU's own, such as ``11.1.2``. ``firmware_dir`` holds ``OVMF.amdsev.fd``; ``descriptor_dir`` QEMU's
    firmware descriptors (JSON), whose file names are absolute paths of an installed system. ``source`` is ``system`` or
    ``cache``.
    """

    qemu_argv: tuple[str, ...]
    env: dict[str, str]
    version: str
    firmware_dir: Path
    descriptor_dir: Path
    source: str


def find_toolchain(cache: Path | None = None) -> Toolchain:
    """The system's QEMU and firmware when both are good enough, else the fetched ones.

    ``cache`` is the cache folder (``None``: `launcher.io.cachedir.cache_folder`). Nothing is downloaded.
    Raises ToolchainMissing, which says what was found.
    """
    reason = _system_problem()
    if isinstance(reason, Toolchain):
        return reason
    fetched = _load(_home(cache))
    if fetched is not None:
        return fetched
    raise ToolchainMissing(
        f"QEMU {'.'.join(map(str, MINIMUM_QEMU))} or newer with {FIRMWARE_FILE}: {reason}; none fetched yet",
        hint="run `cvm image toolchain`, or install newer packages of qemu-system-x86 and ovmf-amdsev",
    )


def fetch_toolchain(
    cache: Path | None = None, *, progress: Progress, suite: Suite = TOOLCHAIN_SUITE, storage: bool = False
) -> Toolchain:
    """The usable toolchain of this machine, downloading Debian's packages into the cache when there is none.

    ``storage``: with :data:`STORAGE_PACKAGES`. A fetched toolchain without them is replaced as a whole, because modules
    load only into the very build of QEMU they were made for. A system's own QEMU is left as it is.

    Safe to call from several processes at once: one downloads, the others wait. Raises FetchFailed.
    """
    system = _system_problem()
    if isinstance(system, Toolchain):
        return system
    home = _home(cache)
    with exclusive(home.with_name("toolchain.lock")):
        ready = _load(home)
        if ready is not None and (has_storage(ready) or not storage):
            return ready
        progress(f"QEMU: {system}; fetching {suite.name}'s into {home}")
        wanted = (*TOOLCHAIN_PACKAGES, *STORAGE_PACKAGES) if storage else TOOLCHAIN_PACKAGES
        packages = AptFolder(home.with_name(f"apt-{suite.name}"), suite, progress).fetch(wanted)
        with staged(home) as folder:
            _unpack(packages, folder)
            version = _version_of(_private_argv(folder), _private_env(folder))
            (folder / "toolchain.json").write_text(_description(wanted, packages, version))
        ready = _load(home)
    if ready is None:
        raise FetchFailed(f"toolchain: the packages of {suite.name} have no usable QEMU")
    progress(f"QEMU {ready.version} ready")
    return ready


def has_storage(tools: Toolchain) -> bool:
    """Whether a fetched toolchain has :data:`STORAGE_PACKAGES`; of a system's own nothing is claimed."""
    return tools.source == "cache" and (Path(tools.env["QEMU_MODULE_DIR"]) / "block-rbd.so").is_file()


def _home(cache: Path | None) -> Path:
    return (cache if cache is not None else cache_folder()) / "toolchain"


def _system_problem() -> Toolchain | str:
    """The system's toolchain, or the reason why it cannot be used."""
    binary = shutil.which(_SYSTEM_BINARY)
    if binary is None:
        return f"{_SYSTEM_BINARY} is not installed"
    version = _version_of((binary,), {})
    if parse_version(version) < MINIMUM_QEMU:
        return f"{binary} is {version}"
    if not (_SYSTEM_FIRMWARE / FIRMWARE_FILE).is_file():
        return f"{_SYSTEM_FIRMWARE / FIRMWARE_FILE} is missing"
    return Toolchain((binary,), {}, version, _SYSTEM_FIRMWARE, Path("/usr/share/qemu/firmware"), "system")


def parse_version(text: str) -> tuple[int, ...]:
    """``11.1.2`` -> ``(11, 1, 2)``; text that is not a version gives ``()``, which is older than everything."""
    match = re.match(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _version_of(argv: tuple[str, ...], env: dict[str, str]) -> str:
    """QEMU's version as it says itself; an empty string when it does not start."""
    try:
        done = subprocess.run(
            (*argv, "--version"), env=env or None, capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return ""
    match = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    return match.group(1) if match else ""


def _load(home: Path) -> Toolchain | None:
    """The fetched toolchain, or ``None`` when there is none or it was made for another package list."""
    try:
        described = json.loads((home / "toolchain.json").read_text())
    except (OSError, ValueError):
        return None
    known = (list(TOOLCHAIN_PACKAGES), [*TOOLCHAIN_PACKAGES, *STORAGE_PACKAGES])
    if described.get("schema") != _SCHEMA or described.get("wanted") not in known:
        return None
    share = home / "usr/share"
    if not (share / "ovmf" / FIRMWARE_FILE).is_file() or parse_version(described.get("version", "")) < MINIMUM_QEMU:
        return None
    return Toolchain(
        _private_argv(home), _private_env(home), described["version"], share / "ovmf", share / "qemu/firmware", "cache"
    )


def _private_argv(home: Path) -> tuple[str, ...]:
    libraries = home / "usr/lib/x86_64-linux-gnu"
    loader = libraries / "ld-linux-x86-64.so.2"
    data = home / "usr/share"
    # librbd keeps its own library in a folder that it names by the absolute path of an installed system
    path = f"{libraries}:{libraries}/ceph" if (libraries / "ceph").is_dir() else str(libraries)
    return (
        str(loader), "--inhibit-cache", "--library-path", path, str(home / "usr/bin" / _SYSTEM_BINARY),
        "-L", str(data / "qemu"), "-L", str(data / "seabios"),
    )  # fmt: skip


def _private_env(home: Path) -> dict[str, str]:
    return {"QEMU_MODULE_DIR": str(home / "usr/lib/x86_64-linux-gnu/qemu")}


def _unpack(packages: Iterable[Package], folder: Path) -> None:
    """Extract every package into ``folder`` and drop what QEMU never reads."""

    def one(package: Package) -> None:
        done = subprocess.run(
            ("dpkg-deb", "--extract", package.path, folder), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FetchFailed(f"dpkg-deb: {package.path.name}: {done.stderr.strip()}")

    from concurrent.futures import ThreadPoolExecutor  # 10 ms of every launch, which only finds the toolchain

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(one, packages))
    for name in _UNNEEDED:
        shutil.rmtree(folder / name, ignore_errors=True)


def _description(wanted: tuple[str, ...], packages: Iterable[Package], version: str) -> str:
    return (
        json.dumps(
            {
                "schema": _SCHEMA,
                "version": version,
                "wanted": list(wanted),
                "packages": [{"name": p.name, "version": p.version, "sha256": p.sha256} for p in packages],
            },
            indent=1,
        )
        + "\n"
    )

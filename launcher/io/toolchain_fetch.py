"""Fetch a QEMU that is new enough, with its firmware, where this machine has none: see :mod:`launcher.io.toolchain`."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.core.debian import Package, Suite
from launcher.io.apt import AptFolder, Progress
from launcher.io.cachedir import exclusive, staged
from launcher.io.mirrors import FetchFailed
from launcher.io.toolchain import (
    SCHEMA,
    STORAGE_PACKAGES,
    TOOLCHAIN_PACKAGES,
    Toolchain,
    fetched_toolchain,
    has_storage,
    private_argv,
    private_env,
    system_toolchain,
    toolchain_folder,
    version_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# A testing release's index is short-lived; on a frozen mirror it is past its date although its signature is good.
TOOLCHAIN_SUITE: Final = Suite("forky", allow_expired=True)
_UNNEEDED: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/icons")


def fetch_toolchain(
    cache: Path | None = None, *, progress: Progress, suite: Suite = TOOLCHAIN_SUITE, storage: bool = False
) -> Toolchain:
    """The usable toolchain of this machine, downloading Debian's packages into the cache when there is none.

    ``storage``: with :data:`STORAGE_PACKAGES`. A fetched toolchain without them is replaced as a whole, because modules
    load only into the very build of QEMU they were made for. A system's own QEMU is left as it is.

    Safe to call from several processes at once: one downloads, the others wait. Raises FetchFailed.
    """
    system = system_toolchain()
    if isinstance(system, Toolchain):
        return system
    home = Path(toolchain_folder(cache))
    with exclusive(home.with_name("toolchain.lock")):
        ready = fetched_toolchain(str(home))
        if ready is not None and (has_storage(ready) or not storage):
            return ready
        progress(f"QEMU: {system}; fetching {suite.name}'s into {home}")
        wanted = (*TOOLCHAIN_PACKAGES, *STORAGE_PACKAGES) if storage else TOOLCHAIN_PACKAGES
        packages = AptFolder(home.with_name(f"apt-{suite.name}"), suite, progress).fetch(wanted)
        with staged(home) as folder:
            _unpack(packages, folder)
            version = version_of(private_argv(str(folder)), private_env(str(folder)))
            (folder / "toolchain.json").write_text(_description(wanted, packages, version))
        ready = fetched_toolchain(str(home))
    if ready is None:
        raise FetchFailed(f"toolchain: the packages of {suite.name} have no usable QEMU")
    progress(f"QEMU {ready.version} ready")
    return ready


def _unpack(packages: Iterable[Package], folder: Path) -> None:
    """Extract every package into ``folder`` and drop what QEMU never reads."""

    def one(package: Package) -> None:
        done = subprocess.run(
            ("dpkg-deb", "--extract", package.path, folder), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise FetchFailed(f"dpkg-deb: {package.path.name}: {done.stderr.strip()}")

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(one, packages))
    for name in _UNNEEDED:
        shutil.rmtree(folder / name, ignore_errors=True)


def _description(wanted: tuple[str, ...], packages: Iterable[Package], version: str) -> str:
    return (
        json.dumps(
            {
                "schema": SCHEMA,
                "version": version,
                "wanted": list(wanted),
                "packages": [{"name": p.name, "version": p.version, "sha256": p.sha256} for p in packages],
            },
            indent=1,
        )
        + "\n"
    )

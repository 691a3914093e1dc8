"""Use case: what a VM would boot directly, as a disk that firmware boots: a unified kernel image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from launcher.core.debian import Package
from launcher.errors import PlanRefused
from launcher.image.efi.esp import boot_disk
from launcher.image.efi.unified import OS_RELEASE, unified
from launcher.image.errors import ImageError, ImageExists
from launcher.image.packages import read_package
from launcher.io.hashing import read_file
from launcher.provision import ImageOrder, fetch_packages
from launcher.roots import published
from launcher.service.planning import prepare
from policy.vocab import Platform

Progress = Callable[[str], None]

STUB_PACKAGE: Final = "systemd-boot-efi"
STUB: Final = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
BOOT_PATH: Final = "EFI/BOOT/BOOTX64.EFI"
_UNMEASURED: Final = (Platform.SEV_SNP, Platform.EMULATED_SNP)
_MOST: Final = 2 << 30


def make_boot_disk(image: Path, vm: str, order: ImageOrder, progress: Progress) -> bytes:
    """Make ``image`` from the VM file ``vm``; the command line (as `cvm plan` shows it) that is in it.

    Raises what planning raises, PlanRefused, ImageExists, ImageError, FetchFailed.
    """
    if os.path.lexists(image):
        raise ImageExists(f"{image}: exists already", hint="give another name, or remove the file first")
    spec = prepare(vm).plan.spec
    if spec.platform in _UNMEASURED:
        raise PlanRefused(
            f"{vm}: platform {spec.platform.value} measures firmware and directly booted kernels only: what boots from "
            "a disk is in no launch digest",
            code="disk.boot-unmeasured",
            hint="boot the kernel directly: [boot] kernel, initrd",
        )
    if spec.kernel is None or spec.initrd is None or not spec.cmdline:
        raise PlanRefused(f"{vm}: want [boot] kernel and initrd, which the image is made of", code="disk.boot-kernel")
    cmdline = spec.cmdline.encode("ascii")
    parts = [
        (".osrel", OS_RELEASE),
        (".cmdline", cmdline),
        (".initrd", read_file(spec.initrd, "initrd", _MOST)),
        (".linux", read_file(spec.kernel, "kernel", _MOST)),
    ]
    made = boot_disk(BOOT_PATH, unified(_stub(order, progress), parts))
    with published(image) as temporary:
        temporary.write_bytes(made)
    progress(f"{image.name}: {BOOT_PATH} with {len(parts)} parts, {len(made) / 1e6:.1f} MB")
    return cmdline


def _stub(order: ImageOrder, progress: Progress) -> bytes:
    found: list[Package] = [
        item for item in fetch_packages((STUB_PACKAGE,), order, progress) if item.name == STUB_PACKAGE
    ]
    files = read_package(found[0], lambda path: path == STUB) if found else {}
    if STUB not in files:
        raise ImageError(f"{STUB_PACKAGE} of {order.suite}: no {STUB} in it")
    return files[STUB].data

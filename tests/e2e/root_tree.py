"""The contents of a small root file system: busybox of the guest's Debian, and what it is called by."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from launcher.image.base import Base

_LIBRARIES = ("ld-linux-x86-64.so.2", "libc.so.6", "libresolv.so.2")


def plant(base: Base, root: Path, programs: Sequence[str]) -> None:
    """Below ``root``; ``/etc/name`` says that it is the root."""
    for path in ("usr/bin/busybox", *(f"usr/lib/x86_64-linux-gnu/{name}" for name in _LIBRARIES)):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(base.sysroot.file(path), target)
    for name, target in (("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib/x86_64-linux-gnu")):
        (root / name).symlink_to(target)
    for name in programs:
        (root / "usr/bin" / name).symlink_to("/usr/bin/busybox")
    (root / "etc").mkdir()
    (root / "etc/name").write_text("the root\n")

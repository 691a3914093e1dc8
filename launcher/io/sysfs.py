"""Files of the kernel (sysfs, procfs, cgroupfs): read whole, written with one call."""

from __future__ import annotations

import os
from pathlib import Path


def read_text(path: Path) -> str:
    """The content without white space around it; empty where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def write_text(path: Path, text: str) -> None:
    """One write of ASCII into a file that is there. Raises OSError with the kernel's reason."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)

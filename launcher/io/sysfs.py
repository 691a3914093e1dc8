"""Files of the kernel (sysfs, procfs, cgroupfs): read whole, written with one call."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    AnyPath = str | os.PathLike[str]


def read_text(path: AnyPath) -> str:
    """The content without white space around it; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  pathlib costs start-up time
            return file.read().strip()
    except OSError:
        return ""


def write_text(path: AnyPath, text: str) -> None:
    """One write of ASCII into a file that is there. Raises OSError with the kernel's reason."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)

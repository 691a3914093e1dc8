"""Fuzz target: a file inside a package yields its libraries and module description, or is refused with our error."""

from __future__ import annotations

from launcher.image.elf import module_info, needed_libraries
from policy.errors import MalformedInput


def one(data: bytes) -> None:
    """Both readers; neither raises anything else."""
    for reader in (needed_libraries, module_info):
        try:
            reader(data, "fuzzed")
        except MalformedInput:
            pass

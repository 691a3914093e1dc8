"""Fuzz target: a file is read from an ext4 file system, or is not there, or the file system is refused."""

from __future__ import annotations

from ovmf.errors import DiskMalformed
from ovmf.ext4 import Ext4Unsupported, Ext4Volume


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        Ext4Volume(memoryview(data)).read("/a/b")
    except (DiskMalformed, Ext4Unsupported):
        return

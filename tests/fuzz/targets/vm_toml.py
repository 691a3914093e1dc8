"""Fuzz target: launcher.config.vm_toml.parse_vm either parses or raises our error."""

from __future__ import annotations

from launcher.config.vm_toml import parse_vm
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input."""
    try:
        parse_vm(data, "vm.toml")
    except CvmError:
        return

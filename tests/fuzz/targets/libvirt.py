"""Fuzz target: a libvirt domain becomes a VM file that is TOML of ours, or raises our error."""

from __future__ import annotations

from launcher.config.libvirt import import_domain
from launcher.config.vm_toml import parse_vm
from launcher.errors import VmConfigInvalid
from policy.errors import CvmError


def one(data: bytes) -> None:
    """Feed one input; whatever comes out is TOML whose keys the decoder knows."""
    try:
        text = import_domain(data).toml
    except CvmError:
        return
    try:
        parse_vm(text.encode("utf-8", "surrogatepass"), "vm.toml")
    except VmConfigInvalid as exc:
        unknown = [problem for problem in exc.problems if "unknown key" in problem or "not TOML" in problem]
        if unknown:
            raise AssertionError(unknown) from None

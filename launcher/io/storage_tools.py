"""Which of QEMU's tools and block modules lie beside the QEMU that is used."""

from __future__ import annotations

import os

from launcher.core.facts import MODULES, TOOLS, VIRTIOFSD, VIRTIOFSD_PATH
from launcher.io.toolchain import Toolchain

_SYSTEM_MODULES = "/usr/lib/x86_64-linux-gnu/qemu"


def qemu_extras(tools: Toolchain) -> frozenset[str]:
    """Those of `launcher.core.facts.EXTRAS` that are there."""
    binaries = os.path.dirname(tools.binary)
    modules = tools.env.get("QEMU_MODULE_DIR", _SYSTEM_MODULES)
    found = [name for name in TOOLS if os.path.exists(f"{binaries}/{name}")]
    found += [name for name in MODULES if os.path.exists(f"{modules}/block-{name}.so")]
    found += [VIRTIOFSD] if os.path.exists(f"{binaries}/{VIRTIOFSD_PATH}") else []
    return frozenset(found)

"""QEMU's ``qemu-img``, as it stands beside the QEMU that is used."""

from __future__ import annotations

import os
import subprocess

from launcher.core.text import safe_text
from launcher.errors import StorageFailed
from launcher.io.toolchain import find_toolchain
from launcher.service.planning import qemu_facts

_PATIENCE = 600


def qemu_img(*words: str) -> str:
    """Its standard output. Raises StorageFailed with its words."""
    facts = qemu_facts(find_toolchain())
    if "qemu-img" not in facts.extras:
        raise StorageFailed(
            "no qemu-img beside this QEMU", hint="cvm image toolchain --storage, or apt install qemu-utils"
        )
    done = subprocess.run(
        [*facts.program("qemu-img"), *words], env={**os.environ, **dict(facts.env)}, capture_output=True, text=True,
        check=False, timeout=_PATIENCE,
    )  # fmt: skip
    if done.returncode != 0:
        raise StorageFailed(f"qemu-img {words[0]}: {safe_text(done.stderr.strip(), 400)}")
    return done.stdout

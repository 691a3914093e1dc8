"""What lines on the serial console mean to the launcher. Fallbacks only: the status port is asked first."""

from __future__ import annotations

import re
from enum import Enum


class Sign(Enum):
    """A line with a meaning."""

    KERNEL = "kernel started"
    PANIC = "kernel panic"
    NOTHING_TO_BOOT = "firmware found nothing it may boot"
    AGENT_BOOTED = "agent started"
    AGENT_ATTESTED = "agent says attested"
    AGENT_REFUSED = "agent says refused"
    AGENT_FAILED = "agent says failed"


_SIGNS = (
    (re.compile(r"\[ *\d+\.\d{6}\] |EFI stub: |Linux version "), Sign.KERNEL),
    (re.compile(r"BdsDxe: No bootable option|BdsDxe: failed to load Boot|Secure boot image verification failed"),
     Sign.NOTHING_TO_BOOT),
    (re.compile(r"cvm: agent started"), Sign.AGENT_BOOTED),
    (re.compile(r"cvm: attested: "), Sign.AGENT_ATTESTED),
    (re.compile(r"cvm: REFUSED "), Sign.AGENT_REFUSED),
    (re.compile(r"cvm: FAILED: "), Sign.AGENT_FAILED),
)  # fmt: skip
_PANIC = re.compile(r"Kernel panic - not syncing: .*")


def sign_of(line: str) -> tuple[Sign, str] | None:
    """The meaning of one cleaned console line, with the words to show; ``None`` for all the others."""
    panic = _PANIC.search(line)
    if panic is not None:
        return Sign.PANIC, panic[0]
    for pattern, sign in _SIGNS:
        match = pattern.match(line)
        if match is not None:
            words = line[match.start() :] if sign in (Sign.NOTHING_TO_BOOT, Sign.KERNEL) else line[len("cvm: ") :]
            return sign, words
    return None

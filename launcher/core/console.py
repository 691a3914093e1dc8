"""What lines on the serial console mean to the launcher. Fallbacks only: the status port is asked first."""

from __future__ import annotations

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


_BEGINNINGS = (
    ("EFI stub: ", Sign.KERNEL),
    ("Linux version ", Sign.KERNEL),
    ("BdsDxe: No bootable option", Sign.NOTHING_TO_BOOT),
    ("BdsDxe: failed to load Boot", Sign.NOTHING_TO_BOOT),
    ("Secure boot image verification failed", Sign.NOTHING_TO_BOOT),
    ("cvm: agent started", Sign.AGENT_BOOTED),
    ("cvm: attested: ", Sign.AGENT_ATTESTED),
    ("cvm: REFUSED ", Sign.AGENT_REFUSED),
    ("cvm: FAILED: ", Sign.AGENT_FAILED),
)
_PANIC = "Kernel panic - not syncing: "


def _is_stamped(line: str) -> bool:
    """Whether it begins as every line of the kernel does: ``[    0.000000] ``."""
    stamp, end, _ = line[:40].partition("] ")
    seconds, dot, micros = stamp.removeprefix("[").lstrip(" ").partition(".")
    digits = seconds + micros
    return bool(line.startswith("[") and end and dot and seconds and len(micros) == 6 and digits.isdecimal())


def sign_of(line: str) -> tuple[Sign, str] | None:
    """The meaning of one cleaned console line, with the words to show; ``None`` for all the others."""
    panic = line.find(_PANIC)
    if panic >= 0:
        return Sign.PANIC, line[panic:]
    for beginning, sign in _BEGINNINGS:
        if line.startswith(beginning):
            return sign, line if sign in (Sign.NOTHING_TO_BOOT, Sign.KERNEL) else line.removeprefix("cvm: ")
    return (Sign.KERNEL, line) if _is_stamped(line) else None

"""The C library for what Python has no function for, and the word for what the kernel refused."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG = 1
"""linux/prctl.h: the signal a process gets when the thread that made it ends."""
libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The kernel refused a step; the text says why."""


def checked(result: int, what: str) -> int:
    """``result`` of a call, or :class:`Refused` with the reason when it is negative."""
    if result < 0:
        raise Refused(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result

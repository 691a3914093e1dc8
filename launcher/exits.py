"""Errors -> exit status: the one place where the launcher's classes become numbers."""

from __future__ import annotations

from launcher import errors
from policy.errors import ConfigInvalid, CvmError, MalformedInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BUG, USAGE, CONFIG, HOST, MALFORMED, VERIFICATION, DENIED, UNAVAILABLE, FAILED, STATE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10

_BY_CLASS: tuple[tuple[type[CvmError], int], ...] = (
    (errors.PlanRefused, CONFIG),
    (errors.HostNotCapable, HOST),
    (errors.GuestDenied, DENIED),
    (errors.EmulatorFailed, FAILED),
    (errors.QemuFailed, FAILED),
    (errors.StorageFailed, UNAVAILABLE),
    (errors.GuestFailed, FAILED),
    (errors.LaunchTimeout, FAILED),
    (errors.NotFound, STATE),
    (errors.WrongState, STATE),
    (errors.StateUnusable, UNAVAILABLE),
    (ConfigInvalid, CONFIG),
)
_BY_CODE = {
    "usage": USAGE,
    "toolchain.missing": HOST,
    "file.unreadable": CONFIG,
    "file.unwritable": UNAVAILABLE,
    "firmware.no-kernel-hashes": CONFIG,
    "cpu.unknown": CONFIG,
    "measure.impossible": CONFIG,
    "id-block.invalid": VERIFICATION,
    "id-block.key": CONFIG,
}
# What the other areas raise: the first word of the code says whose fault it is.
_BY_PREFIX = {"config": CONFIG, "host": HOST, "fetch": UNAVAILABLE, "apt": UNAVAILABLE, "service": UNAVAILABLE,
              "network": UNAVAILABLE, "disk": UNAVAILABLE, "image": UNAVAILABLE}  # fmt: skip


def exit_status(error: CvmError) -> int:
    """The exit status of ARCHITECTURE's table for ``error``; an attribute ``exit_status`` of its class wins."""
    own = getattr(error, "exit_status", None)
    if isinstance(own, int):
        return own
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    for kind, status in _BY_CLASS:
        if isinstance(error, kind):
            return status
    if isinstance(error, MalformedInput):
        return MALFORMED
    return _BY_PREFIX.get(error.code.partition(".")[0], BUG)


class PassedOn(errors.LauncherError):
    """The error that ended another process of ours, with the code, hint and exit status it had there."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(str(document["message"]), code=str(document["code"]), hint=document["hint"])
        self.exit_status = int(document["exit"])

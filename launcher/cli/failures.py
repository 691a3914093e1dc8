"""Errors -> exit status and words. The one place where the launcher's classes become numbers."""

from __future__ import annotations

import json
import sys

from launcher import errors
from policy.errors import ConfigInvalid, CvmError, MalformedInput

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


def report(error: CvmError, *, as_json: bool) -> int:
    """Say what went wrong on stderr; the exit status."""
    status = exit_status(error)
    if as_json:
        document = {
            "schema": "cvm.error/1", "code": error.code, "message": error.message, "hint": error.hint, "exit": status,
        }  # fmt: skip
        sys.stderr.write(json.dumps(document) + "\n")
        return status
    text = error.message if isinstance(error, ConfigInvalid) else f"cvm: {error.message}"
    if isinstance(error, errors.PlanRefused) and error.code not in (type(error).code, errors.PlanRefused.code):
        text += f" [{error.code}]"  # which rule it is; several at once have their ids in the message
    sys.stderr.write(text + (f"\n  {error.hint}" if error.hint else "") + "\n")
    return status


def report_bug() -> int:
    """A bug: the traceback is what its report needs."""
    from traceback import format_exc

    sys.stderr.write(f"{format_exc()}cvm: this is a bug in cvm; please report it with the lines above\n")
    return BUG

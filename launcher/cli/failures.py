"""Errors -> words on standard error, and the exit status."""

from __future__ import annotations

import json
import sys

from launcher import errors
from launcher.exits import BUG, exit_status
from policy.errors import ConfigInvalid, CvmError


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

"""Files that ``attest evidence`` reads, and how it ends."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from attest.cli.evidence_text import printable
from attest.endorsement.errors import VerificationFailed
from attest.errors import AttestError
from policy.errors import ConfigInvalid, CvmError, MalformedInput

GENUINE, MALFORMED, FAILED, DENIED, UNAVAILABLE = "genuine", "malformed", "failed", "denied", "unavailable"
EXIT = {GENUINE: 0, MALFORMED: 5, FAILED: 6, DENIED: 7, UNAVAILABLE: 8}
EXIT_BUG, EXIT_CONFIG, EXIT_NOT_FOUND = 1, 3, 10
_MAX_FILE = 16 << 20


class FileUnreadable(CvmError):
    """A file named on the command line is not there, or may not be read."""

    code = "file.unreadable"


def read_file(path: Path, *, limit: int = _MAX_FILE) -> bytes:
    """The file's bytes, ``limit`` at most; raises :class:`FileUnreadable`."""
    try:
        # Opening a FIFO nobody writes to would wait for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
                raise FileUnreadable(f"{path}: is a folder, want a file")
            data = file.read(limit + 1) or b""
    except OSError as exc:
        raise FileUnreadable(f"{path}: {exc.strerror}") from None
    if len(data) > limit:
        raise FileUnreadable(f"{path}: larger than {limit} bytes")
    return data


def outcome_of(error: CvmError) -> str | None:
    """The contract's outcome for an error about the evidence, ``None`` for one about the call."""
    if isinstance(error, VerificationFailed):
        return FAILED
    if isinstance(error, MalformedInput):
        return MALFORMED
    if isinstance(error, AttestError) and error.kind == "unavailable":
        return UNAVAILABLE
    return None


def exit_code(error: CvmError) -> int:
    """The exit code of any of our errors."""
    outcome = outcome_of(error)
    if outcome is not None:
        return EXIT[outcome]
    if isinstance(error, ConfigInvalid):
        return EXIT_CONFIG
    return EXIT_NOT_FOUND if error.code in ("file.unreadable", "collateral.unreadable") else EXIT_BUG


def refuse(error: CvmError, *, as_json: bool) -> int:
    """Say on standard error why nothing was done; returns the exit code."""
    if as_json:
        text = json.dumps({"code": error.code, "message": error.message, "hint": error.hint})
    else:
        text = printable(f"attest: {error.message}") + (f"\n  hint: {error.hint}" if error.hint else "")
    sys.stderr.write(text + "\n")
    return exit_code(error)

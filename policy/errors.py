"""The root of every error this project raises on purpose.

One class per kind of failure, a stable machine-readable ``code``, and a message of the form *what, where, got, want*.
Exit codes and HTTP statuses are chosen in the shells, never here.

    CvmError
      MalformedInput       bytes or text that do not parse completely
        UnsupportedInput   they parse, but say a version or kind this release does not know
      ConfigInvalid        a file a person wrote; carries every problem at once

Imported on the start-up path of both programs: keep it free of imports.
"""

from __future__ import annotations


class CvmError(Exception):
    """Something this project refuses or could not do.

    ``code`` is stable across releases; ``hint`` is the next thing to try, in one sentence, or ``None``.
    """

    code: str = "error"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class MalformedInput(CvmError):
    """Untrusted input that does not parse completely."""

    code = "input.malformed"


class UnsupportedInput(MalformedInput):
    """Well-formed as far as it was read, but of a version or kind that is not supported; the message names it."""

    code = "input.unsupported"


class ConfigInvalid(CvmError):
    """A file written by a person is wrong. ``problems`` lists all of them, each ``path: text``."""

    code = "config.invalid"

    def __init__(self, what: str, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(f"{what}: {problem}" for problem in problems))
        self.problems = problems

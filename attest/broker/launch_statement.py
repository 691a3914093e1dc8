"""What a host may say: that it launched a VM (``cvm.launch-record/1``), or that a launch ended (``cvm.launch-end/1``).

Both are JSON, signed in a DSSE envelope of one payload type; the schema inside tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from attest.broker.errors import RequestMalformed
from policy.strictjson import strict_json

STARTED, ENDED = "cvm.launch-record/1", "cvm.launch-end/1"
MAX_STATEMENT = 1 << 18
MAX_LAUNCH = 3 * MAX_STATEMENT // 2
"""Bytes of a statement, and of it in base64 with its signatures around it."""
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}")
_UP_MAX = 10**10


@dataclass(frozen=True, slots=True)
class Statement:
    """``members`` is the document, complete and in form; ``time`` is when the host says it happened."""

    members: Mapping[str, Any]
    time: datetime

    @property
    def ended(self) -> bool:
        """Whether it tells an end, not a launch."""
        return bool(self.members["schema"] == ENDED)

    @property
    def vm(self) -> str:
        """The VM's name on its host."""
        return str(self.members["vm"])


def parse_statement(data: bytes) -> Statement:
    """Raises RequestMalformed, naming the member that does not fit."""
    document: Any = strict_json(data, "launch", max_bytes=MAX_STATEMENT, error=RequestMalformed)
    schema = document.get("schema") if isinstance(document, dict) else None
    wanted = _SCHEMAS.get(schema) if isinstance(schema, str) else None
    if wanted is None:
        raise RequestMalformed(f"launch: schema: got {str(schema)[:40]!r}, want {STARTED} or {ENDED}")
    optional = _OPTIONAL.get(str(schema), {})
    if not {"schema", *wanted} <= set(document) <= {"schema", *wanted, *optional}:
        raise RequestMalformed(f"launch: want the members of {schema}: {', '.join(sorted(wanted))}")
    for name, (want, fits) in {**wanted, **optional}.items():
        if name in document and not fits(document[name]):
            raise RequestMalformed(f"launch: {name}: got {str(document[name])[:64]!r}, want {want}")
    return Statement(document, _time(document["time"]))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None and bool(_time(value))
    except (ValueError, OverflowError):
        return False


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)


def _text(most: int) -> tuple[str, Callable[[object], bool]]:
    return f"text of at most {most} characters", lambda value: isinstance(value, str) and len(value) <= most


def _hex(length: int) -> tuple[str, Callable[[object], bool]]:
    pattern = re.compile(rf"[0-9a-f]{{{length}}}")
    return (
        f"{length} lower-case hexadecimal digits",
        lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None,
    )


_Members = Mapping[str, tuple[str, Callable[[object], bool]]]
_BOTH: _Members = {
    "vm": ("a VM's name", lambda value: isinstance(value, str) and NAME.fullmatch(value) is not None),
    "time": ("a time with its zone (RFC 3339)", _is_time),
}
_SCHEMAS: Mapping[str, _Members] = {
    STARTED: {
        **_BOTH,
        "config_sha256": _hex(64),
        "firmware_sha256": _hex(64),
        "qemu_sha256": _hex(64),
        "measurement": _hex(96),
        "qemu_version": _text(200),
        "argv": ("a list of words", _is_argv),
    },
    ENDED: {
        **_BOTH,
        "launch_sha256": _hex(64),
        "outcome": _text(40),
        "reason": _text(400),
        "attested": ("true or false", lambda value: isinstance(value, bool)),
        "up_seconds": (
            "whole seconds",
            lambda value: type(value) is int and 0 <= value < _UP_MAX,
        ),
    },
}
_OPTIONAL: Mapping[str, _Members] = {
    # how often the VM's disks went back to a snapshot; left out where they never did
    STARTED: {"epoch": ("a count", lambda value: type(value) is int and 0 <= value < _UP_MAX)},
}

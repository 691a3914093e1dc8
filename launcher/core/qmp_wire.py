"""One line of QEMU's monitor protocol -> a typed message. Source: QEMU, *QMP specification* (docs/interop/qmp-spec)."""

from __future__ import annotations

from launcher.core.text import safe_text
from launcher.errors import QmpMalformed
from policy.named import NamedTuple
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_LINE = 8 << 20
"""QEMU's schema answer has 400 kB; nothing the launcher asks for comes near this."""


class Greeting(NamedTuple):
    """The first line; ``version`` as (major, minor, micro)."""

    version: tuple[int, int, int]


class Event(NamedTuple):
    """Something happened; ``data`` may be empty."""

    name: str
    data: dict[str, Any]


class Return(NamedTuple):
    """A command's answer."""

    value: Any


class Failure(NamedTuple):
    """A command that QEMU refused, in its words."""

    kind: str
    text: str


Message = Greeting | Event | Return | Failure


def parse_message(line: bytes) -> Message:
    """Decode one line, or raise :class:`QmpMalformed`."""
    document = strict_json(line, "QMP", max_bytes=MAX_LINE, error=QmpMalformed)
    if not isinstance(document, dict):
        raise QmpMalformed("QMP: want a JSON object")
    if "return" in document:
        return Return(document["return"])
    if "error" in document:
        error = document["error"]
        if not isinstance(error, dict):
            raise QmpMalformed("QMP: error: want a JSON object")
        return Failure(safe_text(str(error.get("class")), 60), safe_text(str(error.get("desc"))))
    if "event" in document:
        name, data = document["event"], document.get("data", {})
        if not isinstance(name, str) or not isinstance(data, dict):
            raise QmpMalformed("QMP: event: want a name and an object")
        return Event(safe_text(name, 60), data)
    if "QMP" in document:
        return Greeting(_version(document["QMP"]))
    raise QmpMalformed(
        f"QMP: got members {safe_text(', '.join(sorted(document)), 80)!r}, want return, error, event or QMP"
    )


def _version(body: object) -> tuple[int, int, int]:
    try:
        numbers = body["version"]["qemu"]  # type: ignore[index]  # the except clause is the check
        version = tuple(numbers[part] for part in ("major", "minor", "micro"))
    except (KeyError, TypeError, IndexError):
        raise QmpMalformed("QMP: greeting has no version.qemu with major, minor, micro") from None
    if not all(isinstance(part, int) and not isinstance(part, bool) for part in version):
        raise QmpMalformed("QMP: greeting: version parts must be integers")
    return version[0], version[1], version[2]

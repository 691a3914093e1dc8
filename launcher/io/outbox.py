"""Signed statements about launches on their way to a service: a folder of the host, one file for each that no service
has acknowledged yet, and a list of those that were.

A file is removed only after its acknowledgement is on the list. A crash between the two sends it again, which gives the
same record. The list is for people and says nothing to the service; it is cut when it has grown, newest kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.errors import StateUnusable, WrongState
from launcher.io.launch_record import Signed
from launcher.io.statedir import VmDir, state_root
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FOLDER = ".launches"
_SENT, _LOCK = "sent.jsonl", "lock"
_SUFFIX = ".json"
MAX_WAITING = 10_000
_MAX_SENT = 1 << 20


class Outgoing(NamedTuple):
    """A statement that waits. ``service``: where its VM file says it belongs, ``None`` where it names none; ``ca``: DER
    of the one authority that service's certificate must chain to.
    """

    file: str
    vm: str
    sha256: str
    service: str | None
    ca: bytes | None
    envelope: dict[str, Any]


class Acknowledged(NamedTuple):
    """``record``: the number in that service's audit log."""

    time: str
    vm: str
    sha256: str
    service: str
    record: int


def keep(vm: str, signed: Signed, service: str | None, ca: bytes | None) -> Outgoing:
    """Put a statement into the folder, on disk before this returns. Raises :class:`StateUnusable`."""
    folder = _folder()
    folder.create()
    if len(_files(folder)) >= MAX_WAITING:
        raise StateUnusable(f"{folder.path}: {MAX_WAITING} statements wait", hint="cvm ledger --send")
    name = f"{time.time_ns():020d}-{signed.sha256[:16]}{_SUFFIX}"
    authority = None if ca is None else b64encode(ca).decode("ascii")
    document = {"vm": vm, "sha256": signed.sha256, "service": service, "ca": authority, "envelope": signed.envelope}
    folder.write_json(name, {"schema": "cvm.outgoing/1", **document})
    return Outgoing(name, vm, signed.sha256, service, ca, signed.envelope)


def waiting() -> tuple[Outgoing, ...]:
    """What no service acknowledged yet, oldest first. Raises :class:`StateUnusable` for a file that is not ours."""
    folder = _folder()
    return tuple(_read(folder, name) for name in _files(folder))


def acknowledge(sent: Outgoing, found: Acknowledged) -> None:
    """Remember that a service has it, then let it go."""
    folder = _folder()
    line = json.dumps(found._asdict(), separators=(",", ":")).encode("ascii") + b"\n"
    path = folder.file(_SENT)
    try:
        before = _content(path)
        if len(before) + len(line) > _MAX_SENT:
            before = before[-_MAX_SENT // 2 :].partition(b"\n")[2]
        folder.write(_SENT, before + line)
        os.unlink(folder.file(sent.file))
    except FileNotFoundError:
        return  # another sender was faster
    except OSError as exc:
        raise StateUnusable(f"{path}: {exc.strerror}") from None


def acknowledged(vm: str) -> tuple[Acknowledged, ...]:
    """Statements about one VM that a service has, oldest first."""
    found = []
    for line in _content(_folder().file(_SENT)).splitlines():
        try:
            entry = Acknowledged(**json.loads(line))
        except (ValueError, TypeError):
            raise StateUnusable(f"{_folder().file(_SENT)}: a line is not what this program writes") from None
        if entry.vm == vm:
            found.append(entry)
    return tuple(found)


@contextmanager
def alone(seconds: float) -> Iterator[None]:
    """One sender at a time; another one waits so long, then :class:`WrongState`."""
    folder = _folder()
    folder.create()
    descriptor = os.open(folder.file(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + seconds
    try:
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                raise WrongState("statements about launches are being sent already")
            time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _folder() -> VmDir:
    """The same rules hold as for a VM's folder; no VM's name begins with a dot."""
    return VmDir(state_root(), _FOLDER)


def _files(folder: VmDir) -> list[str]:
    try:
        names = os.listdir(folder.path)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StateUnusable(f"{folder.path}: {exc.strerror}") from None
    return sorted(name for name in names if name.endswith(_SUFFIX) and not name.startswith("."))


def _read(folder: VmDir, name: str) -> Outgoing:
    found = folder.read_json(name)
    try:
        ca = None if found["ca"] is None else b64decode(found["ca"], validate=True)
        return Outgoing(name, found["vm"], found["sha256"], found["service"], ca, dict(found["envelope"]))
    except (KeyError, TypeError, ValueError):
        raise StateUnusable(f"{folder.file(name)}: is not the JSON this program writes") from None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # no pathlib on the way to a launch
            return file.read(2 * _MAX_SENT)
    except FileNotFoundError:
        return b""

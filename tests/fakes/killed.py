"""A process that is killed just before its n-th write to a disk, counted in system calls (ptrace(2)).

``python -m tests.fakes.killed FOLDER`` appends audit records to a database and signs checkpoints, once for each n, in a
process of its own, and prints one JSON line for each: where it was killed, which records it had acknowledged.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from attest.audit.record import Actor, Event
from attest.broker.log import LogSigner, checkpoint
from attest.broker.trail import append
from attest.keys.log_key import load_log_key, make_log_key
from attest.store.engine import Database
from attest.store.group import GroupWrites

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TRACEME, _GETREGS, _SYSCALL, _SETOPTIONS, _SYSGOOD, _EXITKILL = 0, 12, 24, 0x4200, 1, 0x100000
_ORIG_RAX = 15  # of user_regs_struct, x86_64
WRITES = {18: "pwrite", 74: "fsync", 75: "fdatasync", 77: "ftruncate", 82: "rename", 87: "unlink"}
_libc = ctypes.CDLL(None, use_errno=True)


def database_of(folder: Path) -> Database:
    """The database, which is not made here."""
    return Database(folder / "attest.db", busy_seconds=5)


def signer_of(folder: Path) -> LogSigner:
    """The log's key, and what was signed last."""
    return LogSigner(load_log_key(folder / "log.key", "test/log"), folder / "log.seen")


def prepare(folder: Path) -> None:
    """An empty log with a key."""
    folder.mkdir()
    database = database_of(folder)
    database.create()
    database.close()
    make_log_key(folder / "log.key", "test/log")


def work(folder: Path, acknowledge: int) -> None:
    """Three records and a checkpoint, twice; what is acknowledged goes to a pipe."""
    database, signer = database_of(folder), signer_of(folder)
    log = GroupWrites(database)
    for turn in range(2):
        for item in range(3):
            number = log.run(partial(append, event=Event(NOW, "test", f"t{turn}i{item}", "ok", Actor("guest"))))
            os.write(acknowledge, b"%d\n" % number)
        checkpoint(database, signer, NOW)
        os.write(acknowledge, b"signed\n")
    database.close()


def killed_at(folder: Path, wanted: int) -> dict[str, object]:
    """Run :func:`work` and kill it before its write number ``wanted`` (from 1); ``call`` is ``None`` if it ended."""
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        _ptrace(_TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work(folder, writable)
        os._exit(0)
    os.close(writable)
    call = _trace(child, wanted)
    with os.fdopen(readable, "rb") as pipe:
        said = pipe.read().decode().split()
    return {"write": wanted, "call": call, "acknowledged": said}


def _trace(child: int, wanted: int) -> str | None:
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, _SYSGOOD | _EXITKILL)
    registers = (ctypes.c_ulonglong * 27)()
    seen, entering, pass_on = 0, True, 0
    while True:
        _ptrace(_SYSCALL, child, pass_on)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return None
        stopped = os.WSTOPSIG(status)
        pass_on = 0 if stopped == signal.SIGTRAP | 0x80 else stopped
        if pass_on:
            continue
        if entering:
            _libc.ptrace(_GETREGS, child, None, ctypes.byref(registers))
            seen += registers[_ORIG_RAX] in WRITES
            if seen == wanted:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return WRITES[registers[_ORIG_RAX]]
        entering = not entering


def _ptrace(request: int, child: int, data: int) -> None:
    if _libc.ptrace(request, child, None, ctypes.c_void_p(data)) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def main(base: Path) -> int:
    """One line for each write."""
    empty, wanted = base / "empty", 0
    prepare(empty)
    while True:
        wanted += 1
        folder = base / f"{wanted}"
        shutil.copytree(empty, folder)  # making one each time would wait for the disk most of the time
        found = killed_at(folder, wanted)
        sys.stdout.write(json.dumps(found) + "\n")
        if found["call"] is None:
            return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

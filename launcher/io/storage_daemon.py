"""Start the storage daemon confined, and wait until every export answers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from launcher.core.argv.storage_daemon import SOCKET
from launcher.core.confinement import Confinement
from launcher.core.names import STORAGE_FOLDER, STORAGE_LOG
from launcher.core.text import safe_text
from launcher.errors import StorageFailed
from launcher.io import isolation
from launcher.io.isolation import Step, allocate, jail_for, start_confined
from launcher.io.nbd import read_head
from launcher.io.process import end
from launcher.io.sockets import connect_soon
from launcher.io.statedir import VmDir
from launcher.io.tail import last_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from launcher.io.process import Child

_PATIENCE = 45.0
"""Seconds for a server to answer; a Ceph cluster's monitors are asked in turn."""
HEAD = 4096
_REPEATED = re.compile(r"^\S*qemu-storage-daemon: (?:--[a-z-]+ \{.*\}: )?")


class Storage:
    """A started daemon. ``heads``: the first bytes of each export. ``steps`` confine it."""

    __slots__ = ("child", "heads", "steps")

    def __init__(self, child: Child, heads: dict[str, bytes], steps: tuple[Step, ...]) -> None:
        self.child = child
        self.heads = heads
        self.steps = steps


@contextmanager
def storage_daemon(
    argv: Sequence[str], env: Mapping[str, str], vm: VmDir, wanted: Confinement, exports: Sequence[str]
) -> Iterator[Storage]:
    """The daemon runs inside. Raises :class:`StorageFailed` with its words, `IsolationRefused`."""
    home = VmDir(vm.path, STORAGE_FOLDER)
    home.create()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(home.file(SOCKET))
    with open(vm.file(STORAGE_LOG), "ab", buffering=0) as log, jail_for(_same_user(wanted, vm), home) as jail:  # noqa: PTH123  pathlib costs start-up time
        child, steps = _start(jail, argv, env, home, log)
        try:
            yield Storage(child, {name: _head(child, vm, home, name) for name in exports}, steps)
        finally:
            end(child)


def _start(
    jail: isolation.Jail, argv: Sequence[str], env: Mapping[str, str], home: VmDir, log: IO[bytes]
) -> tuple[Child, tuple[Step, ...]]:
    try:
        return start_confined(jail, argv, env, home, log)
    except OSError as exc:
        raise StorageFailed(f"storage daemon: {argv[0]}: {exc.strerror}") from None


def _same_user(wanted: Confinement, vm: VmDir) -> Confinement:
    """QEMU's user must be able to use the socket, so the daemon has the same number; neither sees the other's
    processes or files.
    """
    settings = wanted.settings
    if settings.user != "auto" or settings.mode == "off" or os.geteuid() != 0:
        return wanted
    return wanted._replace(settings=settings._replace(user=allocate(vm)))


def _head(child: Child, vm: VmDir, home: VmDir, export: str) -> bytes:
    client = connect_soon(home.path, SOCKET, seconds=_PATIENCE, alive=lambda: child.poll() is None)
    if client is None:
        why = "it ended" if child.poll() is not None else f"its servers gave no answer within {_PATIENCE:g} s"
        raise _failed(child, vm, why)
    with client:
        client.settimeout(_PATIENCE)
        try:
            return read_head(client, export, HEAD)[1]
        except StorageFailed as exc:
            raise _failed(child, vm, exc.message) from None


def _failed(child: Child, vm: VmDir, why: str) -> StorageFailed:
    with contextlib.suppress(OSError, TimeoutError):
        if child.poll() is None:
            end(child)
    return StorageFailed(
        f"storage daemon: {last_words(vm) or why}",
        hint=f"all it wrote: {vm.file(STORAGE_LOG)}; is the server reachable from this host, and the name right?",
    )


def last_words(vm: VmDir) -> str:
    """The last lines it wrote, without the option it repeats before each."""
    lines = [_REPEATED.sub("", line) for line in last_lines(vm.file(STORAGE_LOG), 4)]
    return "; ".join(safe_text(line, 400) for line in lines)

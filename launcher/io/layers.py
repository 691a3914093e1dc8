"""Overlays of a raw disk: the record beside it of what lies over it, oldest first (``web.img.layers.json``).

The record, not the images' own headers, says which files QEMU opens, so an image cannot name a file of the host's. It
lies beside the disk because it belongs to the disk: whichever VM file names the disk gets the newest layer.
"""

from __future__ import annotations

import fcntl
import os

from launcher.core.names import LAYERS
from launcher.errors import PlanRefused, StorageFailed
from launcher.io.hashing import read_file
from launcher.io.statedir import sync
from policy import plain_json
from policy.errors import MalformedInput
from policy.named import NamedTuple
from policy.strictjson import strict_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.vm import Disk, VmConfig

SUFFIX = LAYERS
SCHEMA = "cvm.layers/1"
MOST = 64
_MAX_RECORD = 1 << 16
_WRITERS = 101


class Layer(NamedTuple):
    """``file`` (absolute) holds what was written since snapshot ``name`` was made, ``seconds`` since 1970."""

    name: str
    file: str
    seconds: int


class LayersMalformed(MalformedInput):
    """A record of layers that is none."""

    code = "disk.layers-malformed"
    exit_status = 3


def layered(config: VmConfig) -> VmConfig:
    """``config`` with what lies over its disks. Raises :class:`LayersMalformed`, `PlanRefused`."""
    return config._replace(disks=tuple(_layered(disk) for disk in config.disks))


def _layered(disk: Disk) -> Disk:
    if disk.network is not None or not has_layers(disk.path):
        return disk
    if disk.readonly or disk.replicas is not None or disk.format != "raw":
        raise PlanRefused(
            f"disk {disk.name}: {disk.path} has snapshots in layers, which only a raw disk that is written can have",
            code="storage.layers",
            hint='format = "raw", without readonly and replicas',
        )
    files = tuple(item.file for item in read_layers(disk.path))
    for file in files:
        if not os.path.isfile(file):
            raise PlanRefused(
                f"disk {disk.name}: {file}: is not there: what was written since a snapshot is in it",
                code="storage.layer-missing",
                hint=f"bring it back; without {disk.path}{SUFFIX} and all layers the disk is as at its first snapshot",
            )
    return disk._replace(layers=files)


def has_layers(path: str) -> bool:
    """Whether anything lies over the disk at ``path``."""
    return os.path.lexists(path + SUFFIX)


def read_layers(path: str) -> tuple[Layer, ...]:
    """What lies over the disk at ``path``, oldest first; empty without a record. Raises :class:`LayersMalformed`."""
    if not has_layers(path):
        return ()
    where = path + SUFFIX
    data = read_file(where, "layers of a disk", _MAX_RECORD)
    body = strict_json(data, where, max_bytes=_MAX_RECORD, error=LayersMalformed)
    if not isinstance(body, dict) or set(body) != {"schema", "layers"} or body["schema"] != SCHEMA:
        raise LayersMalformed(f"{where}: want schema {SCHEMA} and layers")
    rows = body["layers"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST:
        raise LayersMalformed(f"{where}: want 1 to {MOST} layers")
    return tuple(_layer(row, path) for row in rows)


def _layer(row: object, path: str) -> Layer:
    if not isinstance(row, dict) or set(row) != {"name", "file", "seconds"}:
        raise LayersMalformed(f"{path}{SUFFIX}: want name, file and seconds of each layer")
    name, file, seconds = row["name"], row["file"], row["seconds"]
    plain = isinstance(file, str) and "/" not in file and file.startswith(f"{os.path.basename(path)}.")
    if not isinstance(name, str) or not plain or type(seconds) is not int:
        why = "its file must be beside the disk and named after it"
        raise LayersMalformed(f"{path}{SUFFIX}: layer {str(name)[:40]!r}: {why}")
    return Layer(name, os.path.join(os.path.dirname(path), file), seconds)


def write_layers(path: str, layers: tuple[Layer, ...]) -> None:
    """Replace the record in one step, on disk before this returns; without layers it goes. Raises StorageFailed."""
    where = path + SUFFIX
    rows = [{"name": item.name, "file": os.path.basename(item.file), "seconds": item.seconds} for item in layers]
    fresh = f"{where}.{os.getpid()}"
    try:
        if layers:
            with open(fresh, "x", encoding="ascii") as file:  # noqa: PTH123  as the rest of this module
                file.write(plain_json.pretty({"schema": SCHEMA, "layers": rows}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, where)
        elif has_layers(path):
            os.unlink(where)
        sync(os.path.dirname(path))
    except OSError as exc:
        raise StorageFailed(f"{where}: {exc.strerror}") from None


def is_written(path: str) -> bool:
    """Whether some QEMU has this file open for writing: it holds a lock on the byte that says so. Source: QEMU
    ``block/file-posix.c``, RAW_LOCK_PERM_BASE and BLK_PERM_WRITE. Raises StorageFailed.
    """
    try:
        with open(path, "r+b") as file:  # noqa: PTH123  as the rest of this module
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _WRITERS)
            except (BlockingIOError, PermissionError):
                return True
    except OSError as exc:
        raise StorageFailed(f"{path}: {exc.strerror}") from None
    return False

"""``[[disk]]``: a file, a block device or a network source, and how it is carried to the guest."""

from __future__ import annotations

from launcher.config.disk_sources import network
from launcher.config.paths import optional_path
from launcher.config.throttle_parts import throttle
from launcher.core.storage import (
    AIO,
    BUSES,
    CACHES,
    FORMATS,
    IOTHREAD_BUSES,
    KIND,
    Backing,
    Network,
    Replicas,
    Throttle,
)
from launcher.core.vm import Disk, Verity, VmConfig
from policy.errors import MalformedInput
from policy.late import fullmatch
from policy.table import Problems, Table
from policy.verity import MAX_BLOCKS, MIN_BLOCKS
from policy.vocab import ResourcePath

MAX_DISKS = 16
MAX_COPIES = 8
# VIRTIO_BLK_ID_BYTES is 20 (VIRTIO 1.2, section 5.2.6): longer serials are cut.
_DISK_NAME = r"[a-z0-9][a-z0-9_-]{0,19}"
_SERIAL = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,19}"
_PRIORITY = r"idle|(?:best-effort|realtime):[0-7]"


def disks(tables: tuple[Table, ...]) -> tuple[Disk, ...]:
    """``[[disk]]``"""
    if len(tables) > MAX_DISKS:
        tables[MAX_DISKS].problem("path", f"{len(tables)} disks, want at most {MAX_DISKS}")
    return tuple(_disk(table, number) for number, table in enumerate(tables))


def _disk(table: Table, number: int) -> Disk:
    path, source = _source(table)
    kind = table.choice("format", FORMATS, "raw") or "raw"
    verity = _verity(table)
    name, resource = _identity(table, number, verity)
    bus = table.choice("bus", BUSES, "virtio") or "virtio"
    found = Disk(
        path=path,
        name=name,
        resource=resource,
        readonly=table.value("readonly", bool, default=False) or verity is not None,
        network=source,
        format=kind,
        key_file=optional_path(table, "key_file"),
        cache=table.choice("cache", CACHES, "writeback") or "writeback",
        aio=table.choice("aio", AIO, "threads") or "threads",
        discard=bool(table.value("discard", bool, default=True)),
        bus=bus,
        iothread=table.value("iothread", bool, default=False) or False,
        io_priority=_priority(table),
        allow_unsafe=table.value("allow_unsafe", bool, default=False) or False,
        throttle=_throttle(table),
        replicas=_replicas(table),
        verity=verity,
    )
    _consistent(table, found)
    table.finish()
    return found


def _source(table: Table) -> tuple[str, Network | None]:
    path = optional_path(table, "path")
    source = network(table)
    if path is None and source is None:
        table.problem("path", "no source: want a path or one of nbd, rbd, iscsi, nfs")
    if path is not None and source is not None:
        table.problem("path", "and a network source: a disk has one source (further ones are [[disk.replica]])")
    return path or "", source


def _verity(table: Table) -> Verity | None:
    """``[disk.verity]``"""
    found = table.table("verity", required=False)
    if found is None:
        return None
    blocks = found.value("blocks", int, want="blocks of 4096 bytes, as `cvm image root` says") or 0
    text = found.value("root_hash", str, want="64 lower-case hexadecimal digits") or ""
    if blocks and not MIN_BLOCKS <= blocks <= MAX_BLOCKS:
        found.problem("blocks", f"got {blocks}, want {MIN_BLOCKS} to {MAX_BLOCKS}")
    if text and not fullmatch(r"[0-9a-f]{64}", text):
        found.problem("root_hash", f"got {text[:80]!r}, want 64 lower-case hexadecimal digits")
    found.finish()
    return Verity(blocks, text)


def _identity(table: Table, number: int, verity: Verity | None) -> tuple[str, ResourcePath | None]:
    """(serial, key). An encrypted disk's serial is the name the agent looks for; so is a root file system's."""
    serial = table.value("serial", str, want="at most 20 letters and digits") if table.has("serial") else None
    if serial is not None and not fullmatch(_SERIAL, serial):
        table.problem("serial", f"got {serial[:80]!r}, want at most 20 letters, digits, '.', '_' and '-'")
    if serial is not None and verity is not None and not fullmatch(_DISK_NAME, serial):
        table.problem("serial", f"got {serial[:80]!r}, want at most 20 of a-z 0-9 _ - for a disk with a hash tree")
    encrypted = table.table("encrypted", required=False)
    if encrypted is None:
        return serial or ("root" if verity is not None else f"disk{number}"), None
    if serial is not None:
        table.problem("serial", "an encrypted disk's serial is encrypted.name")
    name = encrypted.value("name", str) or f"disk{number}"
    if not fullmatch(_DISK_NAME, name):
        encrypted.problem("name", f"got {name[:80]!r}, want at most 20 of a-z 0-9 _ -")
    found = resource(encrypted)
    encrypted.finish()
    return name, found


def resource(table: Table) -> ResourcePath | None:
    text = table.value("resource", str, want='a key\'s path such as "default/web-1/root"')
    if text is None:
        return None
    try:
        return ResourcePath.parse(text)
    except MalformedInput as exc:
        table.problem("resource", exc.message)
        return None


def _priority(table: Table) -> str | None:
    if not table.has("io_priority"):
        return None
    text = table.value("io_priority", str, want='"idle", "best-effort:0" to "best-effort:7" or "realtime:0" to :7')
    if text is not None and not fullmatch(_PRIORITY, text):
        table.problem("io_priority", f'got {text[:40]!r}, want "idle", "best-effort:N" or "realtime:N" with N 0 to 7')
    return text


def _throttle(table: Table) -> Throttle | str | None:
    own = table.table("throttle", required=False)
    group = None
    if table.has("throttle_group"):
        group = table.value("throttle_group", str, want="the name of a [[throttle]]")
    if own is not None and group is not None:
        table.problem("throttle_group", "and limits of its own: a disk has one of the two")
    return throttle(own) if own is not None else group


def _replicas(table: Table) -> Replicas | None:
    """``[[disk.replica]]``, ``votes`` and ``read_first``."""
    tables = table.tables("replica")
    votes = table.value("votes", int, (len(tables) + 1) // 2 + 1) or 0
    read_first = table.value("read_first", bool, default=False) or False
    if not tables:
        if votes != 1 or read_first:
            table.problem("votes", "votes and read_first need copies: [[disk.replica]]")
        return None
    if len(tables) >= MAX_COPIES:
        tables[MAX_COPIES - 1].problem("path", f"{len(tables)} replicas, want at most {MAX_COPIES - 1}")
    if not 1 <= votes <= len(tables) + 1:
        table.problem("votes", f"got {votes}, want 1 to {len(tables) + 1}, the number of copies")
    return Replicas(tuple(_copy(item) for item in tables), votes, read_first)


def _copy(table: Table) -> Backing:
    path, source = _source(table)
    kind = table.choice("format", FORMATS[:2], "raw") or "raw"
    table.finish()
    return Backing(path, source, kind)


def _consistent(table: Table, disk: Disk) -> None:
    """What no single key can tell."""
    if disk.verity is not None and disk.resource is not None:
        table.problem("verity", "and encrypted: a root file system with a hash tree is not secret")
    if disk.verity is not None and (disk.bus != "virtio" or disk.format != "raw"):
        table.problem("verity", 'the guest\'s agent finds it by its virtio-blk serial: want bus "virtio", format "raw"')
    if (disk.format == "luks") != (disk.key_file is not None):
        table.problem("key_file", 'format "luks" and key_file come together')
    if disk.aio == "native" and disk.cache not in ("none", "directsync"):
        table.problem("aio", 'native needs cache "none" or "directsync": QEMU refuses it with the page cache')
    if disk.iothread and disk.bus not in IOTHREAD_BUSES:
        table.problem("iothread", f"bus {disk.bus} is served by QEMU's main thread, want virtio or scsi")
    if disk.io_priority is not None and not disk.iothread:
        table.problem("io_priority", "needs iothread = true: a priority belongs to a thread")
    if disk.bus == "ide" and disk.readonly:
        table.problem("readonly", "QEMU's IDE disks can always be written, want another bus")
    if disk.bus == "sata" and disk.readonly:
        table.problem("readonly", "QEMU's SATA disks can always be written, want another bus")


def check_disks(config: VmConfig, problems: Problems) -> None:
    """Whether no serial and no source is there twice, and every group that is named is there."""
    groups = {item.name for item in config.throttles}
    names: dict[str, int] = {}
    sources: dict[str, str] = {}
    for number, disk in enumerate(config.disks):
        if disk.name in names:
            problems.add(f"$.disk[{number}].name", f"{disk.name!r} is also $.disk[{names[disk.name]}]'s, want it once")
        names.setdefault(disk.name, number)
        if disk.resource is not None and config.attestation is None:
            problems.add(f"$.disk[{number}].encrypted", "needs an [attestation] table: nobody to ask for the key")
        for copy, backing in enumerate(disk.copies):
            where = f"$.disk[{number}]" if copy == 0 else f"$.disk[{number}].replica[{copy - 1}]"
            key = "path" if backing.network is None else KIND[type(backing.network)]
            if backing.shown in sources:
                problems.add(f"{where}.{key}", f"{backing.shown!r} is also {sources[backing.shown]}'s, want it once")
            sources.setdefault(backing.shown, where)
        if isinstance(disk.throttle, str) and disk.throttle not in groups:
            known = ", ".join(sorted(groups)) or "none"
            text = f"no [[throttle]] is named {disk.throttle[:40]!r}; there are: {known}"
            problems.add(f"$.disk[{number}].throttle_group", text)

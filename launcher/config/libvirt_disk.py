"""``<disk>`` of a libvirt domain -> ``[[disk]]`` of a VM file, and what could not be carried over.

Source: libvirt "Domain XML format", hard drives, floppy disks, CDROMs.
"""

from __future__ import annotations

import re

from launcher.config.disk_sources import endpoint
from launcher.config.throttle_parts import GROUP_NAME
from launcher.config.xml import Element
from launcher.core.storage import AIO, BUSES, CACHES, LIMIT_NAMES
from policy.named import NamedTuple

Table = dict[str, object]
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,19}")
_IDLE = ("source", "driver", "readonly", "target", "address", "alias", "boot", "serial", "iotune")
_NO_SECRET = "a domain holds no secrets: write the file's name"  # noqa: S105  a sentence


class Carried(NamedTuple):
    """``table`` is ``None`` for a disk that cannot be had. ``group``: a shared allowance. ``left``: (part, why)."""

    table: Table | None
    group: tuple[str, Table] | None
    left: tuple[tuple[str, str], ...]


def disk(item: Element) -> Carried:
    """One ``<disk>``."""
    left: list[tuple[str, str]] = []
    table = _source(item, left)
    if table is None:
        return Carried(None, None, tuple(left))
    _driver(item, table, left)
    target, serial = item.child("target"), item.child("serial")
    bus = "virtio" if target is None else target.attributes.get("bus", "virtio")
    if bus not in BUSES:
        left.append(("/target", f"bus {bus[:20]!r} became virtio"))
    elif bus != "virtio":
        table["bus"] = bus
    if serial is not None and _SERIAL.fullmatch(serial.words):
        table["serial"] = serial.words
    elif serial is not None:
        left.append(("/serial", "want at most 20 letters, digits, '.', '_' and '-'"))
    if item.child("readonly") is not None:
        table["readonly"] = True
    group = _limits(item, table, left)
    for part in item.children:
        if part.name not in _IDLE:
            left.append((f"/{part.name}", ""))
    return Carried(table, group, tuple(left))


def _source(item: Element, left: list[tuple[str, str]]) -> Table | None:
    source = item.child("source")
    if item.attributes.get("device", "disk") != "disk":
        left.append(("", "CD-ROMs and floppies are not carried over"))
        return None
    path = "" if source is None else source.attributes.get("file") or source.attributes.get("dev") or ""
    if path:
        return {"path": path}
    protocol = "" if source is None else source.attributes.get("protocol", "")
    known = {"nbd": _nbd, "rbd": _rbd, "iscsi": _iscsi, "nfs": _nfs}
    if source is None or protocol not in known:
        kind = protocol or item.attributes.get("type", "?")
        left.append(("", f"type {kind[:20]!r}: neither file, block device, NBD, RBD, iSCSI nor NFS"))
        return None
    table = known[protocol](source, left)
    if table is None:
        left.append(("/source", f"the words of its {protocol} source are not understood"))
        return None
    return {protocol: table}


def _host(source: Element, port: str) -> str:
    """``HOST:PORT``; empty when there is none."""
    host = source.child("host")
    if host is None:
        return ""
    name = host.attributes.get("name", "")
    text = f"{f'[{name}]' if ':' in name else name}:{host.attributes.get('port', port)}"
    return text if endpoint(f"tcp:{text}") is not None else ""


def _nbd(source: Element, left: list[tuple[str, str]]) -> Table | None:
    host = source.child("host")
    socket = "" if host is None else host.attributes.get("socket", "")
    server = f"unix:{socket}" if socket else f"tcp:{_host(source, '10809')}"
    if endpoint(server) is None:
        return None
    if source.attributes.get("tls") == "yes":
        left.append(("/source@tls", "name the folder of the certificates: tls under [disk.nbd]"))
    name = source.attributes.get("name", "")
    return {"server": server, "export": name} if name else {"server": server}


def _rbd(source: Element, left: list[tuple[str, str]]) -> Table | None:
    pool, slash, image = source.attributes.get("name", "").partition("/")
    namespace, inner, last = image.partition("/")
    if not slash or not pool or not image:
        return None
    table: Table = {"pool": pool, "image": last if inner else image}
    if inner:
        table["namespace"] = namespace
    auth, conf = source.child("auth"), source.child("config")
    if auth is not None:
        table["user"] = auth.attributes.get("username", "admin")
        left.append(("/source/auth", f"{_NO_SECRET}: a keyring named in conf, or key_file"))
    table["conf"] = "/etc/ceph/ceph.conf" if conf is None else conf.attributes.get("file", "/etc/ceph/ceph.conf")
    if source.child("host") is not None:
        left.append(("/source/host", f"the monitors are those of {table['conf']}"))
    return table


def _iscsi(source: Element, left: list[tuple[str, str]]) -> Table | None:
    target, _, lun = source.attributes.get("name", "").partition("/")
    portal = _host(source, "3260")
    if not portal or not target or not (lun or "0").isdigit():
        return None
    if source.child("auth") is not None:
        left.append(("/source/auth", f"{_NO_SECRET}: user and password_file under [disk.iscsi]"))
    return {"portal": portal, "target": target, "lun": int(lun or "0")}


def _nfs(source: Element, left: list[tuple[str, str]]) -> Table | None:
    host = source.child("host")
    file = source.attributes.get("name", "")
    if host is None or not file:
        return None
    if source.child("identity") is not None:
        left.append(("/source/identity", "write the numbers: uid and gid under [disk.nfs]"))
    return {"host": host.attributes.get("name", ""), "file": f"/{file.lstrip('/')}"}


def _driver(item: Element, table: Table, left: list[tuple[str, str]]) -> None:
    driver = item.child("driver")
    words = {} if driver is None else driver.attributes
    kind = words.get("type", "raw")
    if kind == "qcow2":
        table["format"] = kind
    elif kind != "raw":
        left.append(("/driver", f"format {kind[:20]!r}: convert it first: qemu-img convert -O raw"))
    cache, aio = words.get("cache", "default"), words.get("io", "threads")
    if cache in CACHES:
        table["cache"] = cache
    if aio in AIO and aio != "threads":
        table["aio"] = aio
        if aio == "native" and cache not in ("none", "directsync"):
            left.append(("/driver@io", 'native needs cache "none" or "directsync"'))
            del table["aio"]
    if words.get("discard") == "ignore":
        table["discard"] = False
    target = item.child("target")
    if "iothread" in words and (target is None or target.attributes.get("bus", "virtio") == "virtio"):
        table["iothread"] = True
    if words.get("cache") == "unsafe":
        left.append(("/driver@cache", "unsafe wants allow_unsafe = true in a confidential VM"))


def _limits(item: Element, table: Table, left: list[tuple[str, str]]) -> tuple[str, Table] | None:
    tune = item.child("iotune")
    if tune is None:
        return None
    limits: Table = {}
    for name in LIMIT_NAMES:
        kind, _, direction = name.partition("-")
        theirs = f"{direction}_{'bytes' if kind == 'bps' else 'iops'}_sec"
        for suffix, ours in (("", ""), ("_max", "_burst"), ("_max_length", "_burst_seconds")):
            value = _number(tune.child(theirs + suffix))
            if value:
                key = f"{name.replace('-', '_')}{ours}"
                limits[key] = _bytes(value) if kind == "bps" and suffix != "_max_length" else value
    size = _number(tune.child("size_iops_sec"))
    if size:
        limits["iops_size"] = _bytes(size)
    if not limits:
        return None
    group = tune.child("group_name")
    if group is None:
        table["throttle"] = limits
        return None
    name = re.sub("[^a-z0-9]+", "-", group.words.lower()).strip("-")[:32].strip("-")
    if not re.fullmatch(GROUP_NAME, name):
        left.append(("/iotune/group_name", "no letters or digits in it: the disk got limits of its own"))
        table["throttle"] = limits
        return None
    table["throttle_group"] = name
    return name, limits


def _number(item: Element | None) -> int:
    words = "" if item is None else item.words
    return int(words) if words.isascii() and words.isdigit() and len(words) < 16 else 0


def _bytes(value: int) -> str:
    """Up to whole KiB: limits are written as sizes."""
    return f"{-(-value >> 10)}KiB"

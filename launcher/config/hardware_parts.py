"""``[placement]``, ``[ram]``, ``[[numa]]``, ``[devices]``, ``[[passthrough]]``, ``[[share]]``, shape of ``[cpu]``."""

from __future__ import annotations

from launcher.config.paths import path as _path
from launcher.config.sizes import parse_size
from launcher.core.hardware import (
    DIMM,
    GROUP,
    IOMMUFD,
    MODULES,
    VIRTIO_MEM,
    Devices,
    NumaNode,
    Passthrough,
    Placement,
    Ram,
    Share,
)
from launcher.core.limits import cpu_list
from launcher.core.vm import VmConfig
from policy.late import fullmatch
from policy.table import Problems, Table

_FEATURE = r"[+-][a-z0-9][a-z0-9._-]{0,62}"
_ADDRESS = r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PAGES = {"none": 0, "2MiB": 2 << 20, "1GiB": 1 << 30}
_PROCESSORS = 'a list of processors such as "0-3,8"'
_TAG = r"[A-Za-z0-9_.-]{1,35}"
MAX_NODES, MAX_PASSED, MAX_WAYS, MAX_SHARES = 16, 16, 32, 8


def shape(table: Table, count: int) -> tuple[int, int]:
    """``sockets`` and ``threads`` of ``[cpu]``: ``count`` vCPUs are sockets × cores × threads."""
    sockets = table.value("sockets", int, 1) or 0
    threads = table.value("threads", int, 1) or 0
    for name, value in (("sockets", sockets), ("threads", threads)):
        if value < 1 or count % value:
            table.problem(name, f"got {value}, want a divisor of count = {count}")
            return 1, 1
    if count % (sockets * threads):
        table.problem("threads", f"count = {count} is not sockets × cores × threads with {sockets} and {threads}")
        return 1, 1
    return sockets, threads


def features(table: Table) -> tuple[str, ...]:
    """``features`` of ``[cpu]``: ``+name`` or ``-name``."""
    found = table.strings("features", ())
    for item in found:
        if not fullmatch(_FEATURE, item):
            table.problem("features", f'got {item[:60]!r}, want "+name" or "-name" such as "-avx10"')
    return tuple(item for item in found if fullmatch(_FEATURE, item))


def placement(table: Table, vcpus: int) -> Placement:
    """``[placement]``"""
    lists = table.strings("vcpus", ())
    for item in lists:
        _is_list(table, "vcpus", item)
    if lists and len(lists) not in (1, vcpus):
        table.problem("vcpus", f"got {len(lists)} lists, want one for each of {vcpus} vCPUs, or one for all of them")
    found = Placement(
        auto=table.value("auto", bool, default=False) or False,
        vcpus=lists * vcpus if len(lists) == 1 else lists,
        io=_list(table, "io"),
        emulator=_list(table, "emulator"),
        mems=_list(table, "mems"),
        smt_isolation=table.value("smt_isolation", bool, default=False) or False,
        l3_ways=table.value("l3_ways", int, 0) or 0,
    )
    if not 0 <= found.l3_ways <= MAX_WAYS:
        table.problem("l3_ways", f"got {found.l3_ways}, want 0 (all) to {MAX_WAYS}")
    if found.auto and (found.vcpus or found.mems):
        table.problem("auto", "chooses vcpus and mems by itself: want one or the other")
    table.finish()
    return found


def ram(table: Table, memory: int) -> Ram:
    """``[ram]``; ``memory``: what the guest starts with, bytes."""
    names = ("allow_double_memory", "prealloc", "merge", "balloon", "free_page_reporting")
    switches = {name: table.value(name, bool, default=False) or False for name in names}
    pages = _PAGES[table.choice("huge_pages", tuple(_PAGES), "none") or "none"]
    if pages and memory % pages:
        table.problem("huge_pages", f"memory is not a multiple of {pages >> 20} MiB")
    slots = table.value("slots", int, 4) or 0
    if not 1 <= slots <= 256:
        table.problem("slots", f"got {slots}, want 1 to 256")
    overcommit = table.value("overcommit", bool, default=True)
    grow = table.choice("grow", (MODULES, VIRTIO_MEM), MODULES) or MODULES
    most = _maximum(table, memory)
    if pages and most is not None and (most - memory) % pages:
        table.problem("max", f"what it grows by is not a multiple of {pages >> 20} MiB")
    if grow != MODULES and most is None:
        table.problem("grow", "needs max: to what the memory can grow")
    found = Ram(huge_pages=pages, max=most, slots=slots, grow=grow, overcommit=overcommit is not False, **switches)
    table.finish()
    return found


def _maximum(table: Table, memory: int) -> int | None:
    if not table.has("max"):
        return None
    size = parse_size(table.value("max", str, want='a size such as "8GiB"') or "")
    if size is None or size <= memory or size > 16 << 40 or (size - memory) % DIMM:
        table.problem("max", f"want more than memory, by a multiple of {DIMM >> 20} MiB, at most 16TiB")
        return None
    return size


def numa(tables: tuple[Table, ...]) -> tuple[NumaNode, ...]:
    """``[[numa]]``"""
    if len(tables) > MAX_NODES:
        tables[MAX_NODES].problem("memory", f"{len(tables)} nodes, want at most {MAX_NODES}")
    return tuple(_node(table) for table in tables)


def check_numa(config: VmConfig, problems: Problems) -> None:
    """Whether the nodes together are the VM."""
    total = sum(node.memory for node in config.numa)
    if total != config.memory:
        problems.add("$.numa", f"the nodes have {total >> 20} MiB together, want memory = {config.memory >> 20} MiB")
    vcpus = [number for node in config.numa for number in cpu_list(node.cpus)]
    if sorted(vcpus) != list(range(config.cpu.vcpus)):
        problems.add("$.numa", f"want every one of the {config.cpu.vcpus} vCPUs in exactly one node")


def _node(table: Table) -> NumaNode:
    cpus = table.value("cpus", str, want='vCPUs such as "0-1"') or "0"
    _is_list(table, "cpus", cpus)
    text = table.value("memory", str, want='a size such as "1GiB"') or ""
    size = parse_size(text) or 0
    if text and (not size or size % (1 << 20)):
        table.problem("memory", f"got {text[:40]!r}, want whole MiB")
    host = table.value("host", int) if table.has("host") else None
    if host is not None and not 0 <= host < 1024:
        table.problem("host", f"got {host}, want a host NUMA node, 0 to 1023")
    table.finish()
    return NumaNode(cpus, size, host)


def devices(table: Table) -> Devices:
    """``[devices]``"""
    found = Devices(
        rng=table.value("rng", bool, default=False) or False,
        usb_tablet=table.value("usb_tablet", bool, default=False) or False,
        video=table.choice("video", ("none", "std"), "none") or "none",
        tpm=table.value("tpm", bool, default=False) or False,
    )
    table.finish()
    return found


def passthrough(tables: tuple[Table, ...]) -> tuple[Passthrough, ...]:
    """``[[passthrough]]``"""
    if len(tables) > MAX_PASSED:
        tables[MAX_PASSED].problem("address", f"{len(tables)} devices, want at most {MAX_PASSED}")
    found = tuple(_passed(table) for table in tables)
    _once(tables, "address", [item.address for item in found])
    return found


def _passed(table: Table) -> Passthrough:
    address = table.value("address", str, want='a PCI address such as "0000:01:00.0"') or ""
    if address and not fullmatch(_ADDRESS, address):
        table.problem("address", f'got {address[:40]!r}, want a PCI address such as "0000:01:00.0"')
    token = table.value("vf_token", str, want="a UUID") if table.has("vf_token") else None
    if token and not fullmatch(_UUID, token):
        table.problem("vf_token", f"got {token[:40]!r}, want a UUID in lower case")
    backend = table.choice("backend", (IOMMUFD, GROUP), IOMMUFD) or IOMMUFD
    table.finish()
    return Passthrough(address, backend, token)


def shares(tables: tuple[Table, ...]) -> tuple[Share, ...]:
    """``[[share]]``"""
    if len(tables) > MAX_SHARES:
        tables[MAX_SHARES].problem("path", f"{len(tables)} shares, want at most {MAX_SHARES}")
    found = tuple(_share(table) for table in tables)
    _once(tables, "tag", [item.tag for item in found])
    return found


def _once(tables: tuple[Table, ...], key: str, values: list[str]) -> None:
    """Each value under ``key`` only once; the later one is the problem."""
    for number, value in enumerate(values):
        if value in values[:number]:
            tables[number].problem(key, f"{value} is there twice")


def is_tag(text: str) -> bool:
    """Whether a guest can mount a folder by it: 1 to 35 characters (virtio, "File System Device")."""
    return fullmatch(_TAG, text) is not None


def _share(table: Table) -> Share:
    path = _path(table, "path", None) or ""
    tag = table.value("tag", str, want="the name by which the guest mounts it") or ""
    if tag and not is_tag(tag):
        table.problem("tag", f"got {tag[:60]!r}, want 1 to 35 letters, digits and _ . -")
    readonly = table.value("readonly", bool, default=True) is not False
    table.finish()
    return Share(path, tag, readonly)


def _list(table: Table, key: str) -> str | None:
    if not table.has(key):
        return None
    text = table.value(key, str, want=_PROCESSORS) or "0"
    _is_list(table, key, text)
    return text


def _is_list(table: Table, key: str, text: str) -> None:
    try:
        cpu_list(text)
    except ValueError:
        table.problem(key, f"got {text[:40]!r}, want {_PROCESSORS}")

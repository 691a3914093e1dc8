"""``[isolation]`` and ``[limits]``: what QEMU may touch of its host, and how much of it."""

from __future__ import annotations

from launcher.config.numbers import optional_number
from launcher.config.sizes import parse_size
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.limits import IoLimit, Limits, cpu_list, overhead
from policy.table import Table

_MAX_UID = (1 << 31) - 1


def isolation(table: Table) -> IsolationSettings:
    """``[isolation]``"""
    mode = table.choice("mode", ("auto", "strict", "off"), "auto") or "auto"
    text = table.value("user", str, "auto", want='"auto", "none" or a user number such as "64000"') or "auto"
    user: str | int = text
    if text.isascii() and text.isdigit() and len(text) < 11 and 0 < int(text) <= _MAX_UID:
        user = int(text)
    elif text not in ("auto", "none"):
        table.problem("user", f'got {text[:40]!r}, want "auto", "none" or a number of 1 to {_MAX_UID}')
    table.finish()
    return IsolationSettings(mode, user)


def limits(table: Table, memory: int) -> Limits:
    """``[limits]``; ``memory`` is the guest's, bytes: a limit below what it costs would kill QEMU while it boots."""
    sizes = {name: _size(table, name) for name in ("memory_min", "memory_low", "memory_high", "memory_max")}
    need = memory + overhead(memory)
    for name in ("memory_high", "memory_max"):
        size = sizes[name]
        if size is not None and size < need:
            table.problem(name, f"got {size >> 20} MiB, want at least {-(-need >> 20)} MiB: guest memory and QEMU")
    found = Limits(
        cpu_weight=optional_number(table, "cpu_weight", 1, 10_000),
        cpu_max=optional_number(table, "cpu_max", 1, 819_200),
        cpus=_cpus(table),
        io_weight=optional_number(table, "io_weight", 1, 10_000),
        pids=optional_number(table, "pids", 16, 1 << 22),
        key_slots=table.value("key_slots", bool, default=False) or False,
        cpu_idle=table.value("cpu_idle", bool, default=False) or False,
        bus_locks=optional_number(table, "bus_locks", 1, 1_000_000),
        cpu_burst=optional_number(table, "cpu_burst", 1, 819_200),
        io=tuple(_io(item) for item in table.tables("io")),
        **sizes,
    )
    if found.cpu_burst is not None and found.cpu_burst > (found.cpu_max or 0):
        table.problem("cpu_burst", "want at most cpu_max: what was not used is saved up")
    if found.cpu_idle and found.cpu_weight is not None:
        table.problem("cpu_idle", "excludes cpu_weight: what runs only when nothing else does has no weight")
    table.finish()
    return found


def _io(table: Table) -> IoLimit:
    device = table.value("device", str, want='a block device such as "/dev/nvme0n1"') or "/dev/x"
    if not device.startswith("/dev/") or ".." in device.split("/") or len(device) > 200 or not device.isprintable():
        table.problem("device", f'got {device[:40]!r}, want a block device such as "/dev/nvme0n1"')
    found = IoLimit(
        device,
        read_bps=_size(table, "read_bps"),
        write_bps=_size(table, "write_bps"),
        read_iops=optional_number(table, "read_iops", 1, 1 << 40),
        write_iops=optional_number(table, "write_iops", 1, 1 << 40),
        latency=optional_number(table, "latency_us", 1, 10_000_000),
    )
    if found == IoLimit(device):
        table.problem("device", "has no limit: want read_bps, write_bps, read_iops, write_iops or latency_us")
    table.finish()
    return found


def _size(table: Table, key: str) -> int | None:
    if not table.has(key):
        return None
    text = table.value(key, str, want='a size such as "4GiB"') or ""
    size = parse_size(text)
    if text and size is None:
        table.problem(key, f'got {text[:40]!r}, want a whole number of MiB, GiB or TiB such as "4GiB"')
    return size


def _cpus(table: Table) -> str | None:
    if not table.has("cpus"):
        return None
    text = table.value("cpus", str, want='a list of processors such as "0-3,8"') or "0"
    try:
        cpu_list(text)
    except ValueError:
        table.problem("cpus", f'got {text[:40]!r}, want a list of processors such as "0-3,8"')
    return text

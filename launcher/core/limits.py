"""What a VM may use of its host: the values of ``[limits]`` and how cgroup v2 and systemd want them written.

Sources: Linux ``Documentation/admin-guide/cgroup-v2.rst``; ``org.freedesktop.systemd1(5)``, transient unit properties.
"""

from __future__ import annotations

from policy.named import NamedTuple
from policy.vocab import Platform

PERIOD = 100_000
"""Microseconds over which ``cpu.max`` counts."""
QEMU_OVERHEAD = 256 << 20
"""QEMU itself: 55 to 223 MiB have been reported for Kata's guests, more with many devices."""
KEY_RESOURCE = {Platform.SEV_SNP: "sev_es", Platform.TDX: "tdx"}
"""Resources of the misc controller that count memory encryption keys."""


class IoLimit(NamedTuple):
    """What a VM may do with one block device of the host, per second; ``latency``: microseconds the kernel aims at."""

    device: str
    read_bps: int | None = None
    write_bps: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    latency: int | None = None


class Limits(NamedTuple):
    """``None``: no limit. ``cpu_max`` in percent of one processor; sizes in bytes; ``cpus`` a list such as ``0-3,8``.

    ``cpu_idle``: run only while nothing else wants a processor. ``bus_locks`` per second, which KVM counts, no cgroup.
    ``key_slots``: whether the VM's cgroup may take its one memory encryption key and no second one.
    """

    cpu_weight: int | None = None
    cpu_max: int | None = None
    cpus: str | None = None
    memory_min: int | None = None
    memory_high: int | None = None
    memory_max: int | None = None
    io_weight: int | None = None
    pids: int | None = None
    key_slots: bool = False
    memory_low: int | None = None
    cpu_burst: int | None = None
    cpu_idle: bool = False
    bus_locks: int | None = None
    io: tuple[IoLimit, ...] = ()


class Setting(NamedTuple):
    """One line for one file of a cgroup, and the controller that must be there. ``device``: of the line's block device,
    whose number is written before the value.
    """

    controller: str
    file: str
    value: str
    device: str | None = None


def overhead(memory: int) -> int:
    """What QEMU's process needs besides the guest's memory, bytes: itself, and page tables of 8 bytes per 4 KiB."""
    return QEMU_OVERHEAD + memory // 512


def settings(limits: Limits, platform: Platform, mems: str | None = None) -> tuple[Setting, ...]:
    """Every limit as cgroup v2 wants it, in the order of the table; ``mems``: memory nodes of its placement."""
    quota = None if limits.cpu_max is None else f"{limits.cpu_max * PERIOD // 100} {PERIOD}"
    slot = f"{KEY_RESOURCE[platform]} 1" if limits.key_slots and platform in KEY_RESOURCE else None
    wanted = (
        ("cpu", "cpu.weight", limits.cpu_weight),
        ("cpu", "cpu.idle", 1 if limits.cpu_idle else None),
        ("cpu", "cpu.max", quota),
        ("cpu", "cpu.max.burst", None if limits.cpu_burst is None else limits.cpu_burst * PERIOD // 100),
        ("cpuset", "cpuset.cpus", limits.cpus),
        ("cpuset", "cpuset.mems", mems),
        ("memory", "memory.min", limits.memory_min),
        ("memory", "memory.low", limits.memory_low),
        ("memory", "memory.high", limits.memory_high),
        ("memory", "memory.max", limits.memory_max),
        ("io", "io.weight", limits.io_weight),
        ("pids", "pids.max", limits.pids),
        ("misc", "misc.max", slot),
    )
    plain = (Setting(controller, file, str(value)) for controller, file, value in wanted if value is not None)
    return (*plain, *(line for item in limits.io for line in _io(item)))


_IO_KEYS = (("rbps", "read_bps"), ("wbps", "write_bps"), ("riops", "read_iops"), ("wiops", "write_iops"))


def _io(limit: IoLimit) -> tuple[Setting, ...]:
    rates = " ".join(f"{key}={value}" for key, name in _IO_KEYS if (value := getattr(limit, name)) is not None)
    found = [Setting("io", "io.max", rates, limit.device)] if rates else []
    if limit.latency is not None:
        found.append(Setting("io", "io.latency", f"target={limit.latency}", limit.device))
    return tuple(found)


_SYSTEMD = {"cpu.weight": "CPUWeight", "memory.min": "MemoryMin", "memory.low": "MemoryLow",
            "memory.high": "MemoryHigh", "memory.max": "MemoryMax", "io.weight": "IOWeight",
            "pids.max": "TasksMax"}  # fmt: skip


_MASKS = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
_PER_DEVICE = {"rbps": "IOReadBandwidthMax", "wbps": "IOWriteBandwidthMax", "riops": "IOReadIOPSMax",
               "wiops": "IOWriteIOPSMax", "target": "IODeviceLatencyTargetUSec"}  # fmt: skip
UNKNOWN_TO_SYSTEMD = ("misc.max", "cpu.max.burst", "cpu.idle")
"""Files that no property of a scope stands for: they are written into its cgroup."""


def scope_call(name: str, pid: int, wanted: tuple[Setting, ...]) -> tuple[str, ...]:
    """The ``busctl`` words of StartTransientUnit (name, mode, properties, aux) for a running QEMU."""
    properties: list[tuple[str, ...]] = [("PIDs", "au", "1", str(pid)), ("Delegate", "b", "false")]
    for item in wanted:
        if item.file in _SYSTEMD:
            properties.append((_SYSTEMD[item.file], "t", item.value))
        elif item.file == "cpu.max":
            properties.append(("CPUQuotaPerSecUSec", "t", str(int(item.value.split()[0]) * 1_000_000 // PERIOD)))
        elif item.file in _MASKS:
            mask = sum(1 << cpu for cpu in cpu_list(item.value))
            octets = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
            properties.append((_MASKS[item.file], "ay", str(len(octets)), *(str(octet) for octet in octets)))
        elif item.device is not None:
            pairs = (pair.split("=") for pair in item.value.split())
            properties += [(_PER_DEVICE[key], "a(st)", "1", item.device, value) for key, value in pairs]
    words = [word for entry in properties for word in entry]
    return (
        "busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
        "StartTransientUnit", "ssa(sv)a(sa(sv))", f"cvm-{name}.scope", "fail", str(len(properties)), *words, "0",
    )  # fmt: skip


def cpu_list(text: str) -> frozenset[int]:
    """``0-3,8`` -> {0, 1, 2, 3, 8}. Raises ValueError; the highest is 8191 (CONFIG_NR_CPUS)."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if not (part.replace("-", "", 1).isascii() and part.replace("-", "", 1).isdigit() and low <= high < 8192):
            raise ValueError(f"{part[:20]!r}: want a list of processors such as 0-3,8")
        found.update(range(low, high + 1))
    return frozenset(found)

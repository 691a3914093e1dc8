"""Read what ``cvm doctor`` judges. Changes nothing, needs no privilege; ``root`` stands for ``/`` in tests."""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import os
import re
import socket
import struct
import time
from pathlib import Path

from launcher.core.doctor_facts import DeepFacts, SnpFirmware

QGS_SOCKET = "var/run/tdx-qgs/qgs.socket"
_NODES = ("sev", "vhost-vsock", "iommu", "net/tun", "sgx_enclave", "sgx_provision")
_PROGRAMS = ("ip", "tc", "passt")
_SETTINGS = {
    "ksm": "sys/kernel/mm/ksm/run",
    "thp": "sys/kernel/mm/transparent_hugepage/enabled",
    "hugepages": "proc/sys/vm/nr_hugepages",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
    "npt": "sys/module/kvm_amd/parameters/npt",
    "ept": "sys/module/kvm_intel/parameters/ept",
}
_MAX_CONFIG, _MAX_LOG = 4 << 20, 8 << 20
# linux/psp-sev.h: _IOWR('S', 0, struct sev_issue_cmd) with {u32 cmd, u64 data, u32 error} packed.
_SEV_ISSUE_CMD, _SNP_PLATFORM_STATUS = 0xC0105300, 9
_STATUS = struct.Struct("<BBBBIIIQQ")


def probe_deep(root: Path = Path("/"), release: str | None = None) -> DeepFacts:
    """Everything; ``release`` is ``uname -r``."""
    running = os.uname().release if release is None else release
    config, config_file = _config(root, running)
    version = re.match(r"(\d+)\.(\d+)", running)
    controllers = _text(root / "sys/fs/cgroup/cgroup.controllers")
    swaps = _text(root / "proc/swaps")
    groups = _entries(root / "sys/kernel/iommu_groups")
    return DeepFacts(
        kernel=(int(version[1]), int(version[2])) if version else (0, 0),
        config=config,
        config_file=config_file,
        cmdline=_text(root / "proc/cmdline") or "",
        kernel_log=_kernel_log(root / "dev/kmsg"),
        asids=_asids(root / "dev/cpu/0/cpuid"),
        misc=_misc(root / "sys/fs/cgroup"),
        devices={name: _node(root / "dev" / name) for name in _NODES if (root / "dev" / name).exists()},
        settings={name: _text(root / path) for name, path in _SETTINGS.items()},
        iommu_groups=len(groups),
        iommu_domains=tuple(sorted({_text(group / "type") or "" for group in groups})),
        swap=None if swaps is None else len(swaps.splitlines()) > 1,
        controllers=None if controllers is None else tuple(controllers.split()),
        snp=_snp(root),
        sockets={f"/{QGS_SOCKET}": _socket(root / QGS_SOCKET)},
        year=time.gmtime().tm_year,
        programs=frozenset(name for name in _PROGRAMS if _installed(root, name)),
    )


def _installed(root: Path, name: str) -> bool:
    return any(os.access(root / folder / name, os.X_OK) for folder in ("usr/sbin", "usr/bin", "sbin", "bin"))


def _config(root: Path, release: str) -> tuple[dict[str, str] | None, str]:
    for name in ("proc/config.gz", f"boot/config-{release}", f"usr/lib/modules/{release}/config"):
        try:
            with open(root / name, "rb") as raw:  # noqa: PTH123  pathlib costs start-up time
                source = gzip.GzipFile(fileobj=raw) if name.endswith(".gz") else raw
                text = source.read(_MAX_CONFIG).decode("ascii", "replace")
        except (OSError, EOFError):
            continue
        return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.MULTILINE)), f"/{name}"
    return None, ""


def _kernel_log(device: Path) -> tuple[str, ...] | None:
    """Records of /dev/kmsg (or the lines of a file): ``priority,sequence,time,flags;text``."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    data = b""
    try:
        while len(data) < _MAX_LOG:
            try:
                piece = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # the ring went round while we read
            if not piece:
                break
            data += piece
    except OSError:
        return None
    finally:
        os.close(descriptor)
    lines = data.decode("utf-8", "replace").splitlines()
    return tuple(line.partition(";")[2] for line in lines if ";" in line)


def _asids(device: Path) -> tuple[int, int] | None:
    """CPUID 0x8000001F ECX and EDX; (0, 0) on a processor that has no such leaf."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if struct.unpack("<4I", os.pread(descriptor, 16, 0x80000000))[0] < 0x8000001F:
            return 0, 0
        ecx, edx = struct.unpack("<4I", os.pread(descriptor, 16, 0x8000001F))[2:]
    except (OSError, struct.error):
        return None
    finally:
        os.close(descriptor)
    return ecx, edx


def _misc(folder: Path) -> dict[str, tuple[int, int | None]]:
    capacity, current = (
        dict(re.findall(r"^(\w+) (\d+)$", _text(folder / f"misc.{name}") or "", re.MULTILINE))
        for name in ("capacity", "current")
    )
    return {name: (int(value), int(current[name]) if name in current else None) for name, value in capacity.items()}


def _node(path: Path) -> str:
    return "" if os.access(path, os.R_OK | os.W_OK) else "not readable and writable for this user"


def _socket(path: Path) -> str:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(2)
    try:
        client.connect(os.fspath(path))
    except OSError as exc:
        return exc.strerror or str(exc)
    finally:
        client.close()
    return ""


def _snp(root: Path) -> SnpFirmware | None:
    """Asked only where KVM has SNP switched on already: elsewhere the question could initialise the platform."""
    if _text(root / "sys/module/kvm_amd/parameters/sev_snp") not in ("Y", "1"):
        return None
    try:
        descriptor = os.open(root / "dev/sev", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    answer = ctypes.create_string_buffer(_STATUS.size)
    command = bytearray(struct.pack("<IQI", _SNP_PLATFORM_STATUS, ctypes.addressof(answer), 0))
    try:
        fcntl.ioctl(descriptor, _SEV_ISSUE_CMD, command)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return parse_status(answer.raw)


def parse_status(data: bytes) -> SnpFirmware:
    """The 32 bytes of ``struct sev_user_data_snp_status`` (linux/psp-sev.h), little-endian."""
    major, minor, _state, flags, _build, _mask, guests, current, reported = _STATUS.unpack(data)
    return SnpFirmware((major, minor), bool(flags & 1), guests, current, reported)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None

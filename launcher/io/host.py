"""Look at this host. Reads only, needs no privilege; what may not be read is reported as not known."""

from __future__ import annotations

import fcntl
import os
import struct

from launcher.core.facts import HostFacts, KvmFacts
from launcher.io.sysfs import read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.sysfs import AnyPath

# linux/kvm.h: _IO(KVMIO, nr) with KVMIO = 0xAE.
_KVM_GET_API_VERSION = 0xAE00
_KVM_CHECK_EXTENSION = 0xAE03
_KVM_CAP_VM_TYPES = 235
_API_VERSION = 12


def probe_host(root: AnyPath = "/") -> HostFacts:
    """Everything the planner asks about. ``root`` stands for ``/`` in tests."""
    cpuinfo = read_text(f"{root}/proc/cpuinfo")
    flags = frozenset(_field(cpuinfo, "flags").split())
    meminfo = read_text(f"{root}/proc/meminfo")
    return HostFacts(
        kvm=_kvm(f"{root}/dev/kvm", flags),
        vendor=_field(cpuinfo, "vendor_id"),
        flags=flags,
        cpus=len(os.sched_getaffinity(0)),
        memory_total=_kib(meminfo, "MemTotal"),
        memory_available=_kib(meminfo, "MemAvailable"),
        kernel=os.uname().release,
        sev_snp=_parameter(root, "kvm_amd/parameters/sev_snp"),
        tdx=_parameter(root, "kvm_intel/parameters/tdx"),
        c_bit=_c_bit(f"{root}/dev/cpu/0/cpuid"),
        sev_device=_sev_device(f"{root}/dev/sev"),
        cgroup_v2=os.path.exists(f"{root}/sys/fs/cgroup/cgroup.controllers"),
        numa_balancing=read_text(f"{root}/proc/sys/kernel/numa_balancing").strip() or None,
        smt={"1": True, "0": False}.get(read_text(f"{root}/sys/devices/system/cpu/smt/active").strip()),
    )


def _kvm(device: str, flags: frozenset[str]) -> KvmFacts:
    if not os.path.exists(device):
        return KvmFacts(present=False, problem="no /dev/kvm")
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        return KvmFacts(present=True, problem=f"/dev/kvm: {exc.strerror}")
    try:
        version = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION, 0)
        types = fcntl.ioctl(descriptor, _KVM_CHECK_EXTENSION, _KVM_CAP_VM_TYPES)
    except OSError as exc:
        return KvmFacts(present=True, problem=f"/dev/kvm does not answer as KVM: {exc.strerror}")
    finally:
        os.close(descriptor)
    if version != _API_VERSION:
        return KvmFacts(present=True, problem=f"/dev/kvm: API version {version}, want {_API_VERSION}", vm_types=types)
    if not flags & {"svm", "vmx"}:
        problem = "/dev/kvm opens, but the processor shows neither svm nor vmx, so no guest would run"
        return KvmFacts(present=True, problem=problem, vm_types=types)
    return KvmFacts(present=True, problem="", vm_types=types or 1)


def _c_bit(device: str) -> int | None:
    """CPUID 0x8000001F EBX[5:0], through the cpuid driver; ``None`` where it is not loaded or not allowed."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        highest = struct.unpack("<4I", os.pread(descriptor, 16, 0x80000000))[0]
        if highest < 0x8000001F:
            return None
        eax, ebx = struct.unpack("<4I", os.pread(descriptor, 16, 0x8000001F))[:2]
    except (OSError, struct.error):
        return None
    finally:
        os.close(descriptor)
    return ebx & 0x3F if eax & 2 else None


def _sev_device(device: str) -> str:
    if not os.path.exists(device):
        return "no /dev/sev"
    return "" if os.access(device, os.R_OK | os.W_OK) else "/dev/sev: not readable and writable for this user"


def _parameter(root: AnyPath, name: str) -> str | None:
    return read_text(f"{root}/sys/module/{name}") or None


def _field(text: str, name: str) -> str:
    _, _, rest = f"\n{text}".partition(f"\n{name}")
    padding, _, value = rest.partition("\n")[0].partition(":")
    return "" if padding.strip() else value.strip()


def _kib(text: str, name: str) -> int | None:
    digits, _, unit = _field(text, name).partition(" ")
    return int(digits) << 10 if digits.isdigit() and unit == "kB" else None

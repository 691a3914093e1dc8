"""Memory objects, NUMA nodes of the guest, and room to grow.

Source: QEMU 11.1 ``qom.json``, MemoryBackendProperties.
"""

from __future__ import annotations

from launcher.core.argv.words import json_value
from launcher.core.hardware import NumaNode
from launcher.core.limits import cpu_list
from launcher.core.spec import VmSpec

GROWING, GROWING_DEVICE = "growing-ram", "growing0"
GROWING_BLOCK = 2 << 20
"""What Linux hands out at least; QEMU alone would take the host's page."""


def memory_features(spec: VmSpec) -> tuple[str, ...]:
    """Features of the machine that say where memory is. With NUMA nodes each names its own."""
    merge = "mem-merge=on" if spec.ram.merge else "mem-merge=off"
    guard = ("confidential-guest-support=cgs0",) if spec.snp is not None or spec.tdx is not None else ()
    return (merge, *guard, *(() if spec.numa else ("memory-backend=ram0",)))


def memory(spec: VmSpec) -> tuple[str, ...]:
    """Size and objects; for a protected guest they are the shared half, the private one QEMU adds by itself."""
    size = f"{spec.memory >> 20}M"
    if spec.ram.max is not None:
        slots = "" if spec.ram.by_device else f",slots={spec.ram.slots}"
        size += f"{slots},maxmem={spec.ram.max >> 20}M"
    if not spec.numa:
        return ("-m", size, "-object", ram_object(spec, "ram0", spec.memory), *_growing(spec))
    options = ["-m", size, *_growing(spec)]
    for number, node in enumerate(spec.numa):
        options += ["-object", ram_object(spec, f"ram{number}", node.memory, node)]
        options += ["-numa", f"node,nodeid={number},memdev=ram{number}{_vcpus(node)}"]
    return tuple(options)


def _growing(spec: VmSpec) -> tuple[str, ...]:
    """What virtio-mem hands out: never filled beforehand, the device fills what it plugs where that is wanted."""
    if not spec.ram.by_device or spec.ram.max is None:
        return ()
    return ("-object", ram_object(spec, GROWING, spec.ram.max - spec.memory, filled=False))


def growing_device(spec: VmSpec) -> tuple[str, ...]:
    """The virtio-mem device; at first it has nothing plugged."""
    if not spec.ram.by_device:
        return ()
    block = max(spec.ram.huge_pages, GROWING_BLOCK)
    prealloc = ",prealloc=on" if spec.ram.filled else ""
    virtio = "disable-legacy=on,iommu_platform=on"
    size = f"block-size={block >> 20}M,requested-size=0{prealloc}"
    return ("-device", f"virtio-mem-pci,id={GROWING_DEVICE},memdev={GROWING},{size},{virtio}")


def ram_object(spec: VmSpec, name: str, size: int, node: NumaNode | None = None, *, filled: bool | None = None) -> str:
    """One memory object. Huge pages are found at once, or the launch fails: prealloc follows from them, and from that
    the reservation (QEMU: 'prealloc=on' and 'reserve=off' are incompatible). ``filled`` overrides that.
    """
    huge: dict[str, object] = {}
    if spec.ram.huge_pages:
        huge = {"hugetlb": True, "hugetlbsize": spec.ram.huge_pages}
    bound: dict[str, object] = {}
    if node is not None and node.host is not None:
        bound = {"host_nodes": [node.host], "policy": "bind"}
    if filled is None:
        filled, reserve = spec.ram.filled, spec.ram.filled or not spec.ram.overcommit
    else:
        reserve = filled
    return json_value(
        qom_type="memory-backend-memfd", id=name, size=size, share=True, prealloc=filled,
        reserve=reserve, **huge, **({"merge": True} if spec.ram.merge else {}), **bound,
    )  # fmt: skip


def _vcpus(node: NumaNode) -> str:
    return "".join(f",cpus={number}" for number in sorted(cpu_list(node.cpus)))

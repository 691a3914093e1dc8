"""Memory objects, NUMA nodes of the guest, and room to grow.

Source: QEMU 11.1 ``qom.json``, MemoryBackendProperties.
"""

from __future__ import annotations

from launcher.core.argv.words import json_value
from launcher.core.hardware import NumaNode
from launcher.core.limits import cpu_list
from launcher.core.spec import VmSpec


def memory_features(spec: VmSpec) -> tuple[str, ...]:
    """Features of the machine that say where memory is. With NUMA nodes each names its own."""
    merge = "mem-merge=on" if spec.ram.merge else "mem-merge=off"
    guard = ("confidential-guest-support=cgs0",) if spec.snp is not None or spec.tdx is not None else ()
    return (merge, *guard, *(() if spec.numa else ("memory-backend=ram0",)))


def memory(spec: VmSpec) -> tuple[str, ...]:
    """Size and objects; for a protected guest they are the shared half, the private one QEMU adds by itself."""
    size = f"{spec.memory >> 20}M"
    if spec.ram.max is not None:
        size += f",slots={spec.ram.slots},maxmem={spec.ram.max >> 20}M"
    if not spec.numa:
        return ("-m", size, "-object", ram_object(spec, "ram0", spec.memory))
    options = ["-m", size]
    for number, node in enumerate(spec.numa):
        options += ["-object", ram_object(spec, f"ram{number}", node.memory, node)]
        options += ["-numa", f"node,nodeid={number},memdev=ram{number}{_vcpus(node)}"]
    return tuple(options)


def ram_object(spec: VmSpec, name: str, size: int, node: NumaNode | None = None) -> str:
    """One memory object. Huge pages are found at once, or the launch fails: prealloc follows from them, and from that
    the reservation (QEMU: 'prealloc=on' and 'reserve=off' are incompatible).
    """
    huge: dict[str, object] = {}
    if spec.ram.huge_pages:
        huge = {"hugetlb": True, "hugetlbsize": spec.ram.huge_pages}
    bound: dict[str, object] = {}
    if node is not None and node.host is not None:
        bound = {"host_nodes": [node.host], "policy": "bind"}
    filled = spec.ram.filled
    return json_value(
        qom_type="memory-backend-memfd", id=name, size=size, share=True, prealloc=filled,
        reserve=filled or not spec.ram.overcommit, **huge, **({"merge": True} if spec.ram.merge else {}), **bound,
    )  # fmt: skip


def _vcpus(node: NumaNode) -> str:
    return "".join(f",cpus={number}" for number in sorted(cpu_list(node.cpus)))

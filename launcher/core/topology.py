"""The host's processors and memory nodes, and where on them a VM runs best. Pure: read by ``launcher.io.topology``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from policy.named import NamedTuple


class HostCpu(NamedTuple):
    """One processor as the kernel numbers it. ``core``: unique on the host; ``cache``: its last-level cache."""

    number: int
    node: int
    core: str
    cache: str


class HostNode(NamedTuple):
    """A NUMA node; ``free`` memory in bytes, ``None`` if not known."""

    number: int
    free: int | None


class HostTopology(NamedTuple):
    """What this process may use of the host."""

    cpus: tuple[HostCpu, ...]
    nodes: tuple[HostNode, ...]

    @property
    def smt(self) -> bool:
        """Whether two processors share a core."""
        return len({cpu.core for cpu in self.cpus}) < len(self.cpus)


class Wish(NamedTuple):
    """What is to be placed: vCPUs (``threads`` of them on a core), memory in bytes, and whether cores are its own."""

    vcpus: int
    threads: int
    memory: int
    whole_cores: bool


class Chosen(NamedTuple):
    """One processor for each vCPU, the others' list, the memory node; ``why`` explains it."""

    vcpus: tuple[int, ...]
    others: tuple[int, ...]
    node: int
    why: str


def choose(host: HostTopology, wish: Wish, taken: frozenset[int] = frozenset()) -> Chosen | str:
    """The best place, or why there is none. ``taken``: processors other VMs' vCPUs are pinned to."""
    found = [option for node in host.nodes if (option := _on_node(host, node, wish, taken)) is not None]
    if not found:
        sizes = ", ".join(_node_words(host, node, taken) for node in host.nodes)
        return f"{wish.vcpus} vCPUs with {wish.memory >> 20} MiB fit no single node ({sizes}): nothing is pinned"
    return min(found)[1]


def _on_node(
    host: HostTopology, node: HostNode, wish: Wish, taken: frozenset[int]
) -> tuple[tuple[int, int, int], Chosen] | None:
    """(rank, choice): first few caches, then one processor left for QEMU, then much free memory."""
    mine = [cpu for cpu in host.cpus if cpu.node == node.number]
    free = [cpu for cpu in mine if cpu.number not in taken]
    if node.free is not None and node.free < wish.memory:
        return None
    picked = _pick(free, wish)
    if picked is None:
        return None
    cores = {cpu.core for cpu in picked} if wish.whole_cores else set()
    others = [cpu for cpu in free if cpu not in picked and cpu.core not in cores]
    caches = len({cpu.cache for cpu in picked})
    shared = "one last-level cache" if caches == 1 else f"{caches} last-level caches"
    rest = "QEMU itself on the node's other processors" if others else "no processor of the node is left for QEMU"
    memory = "" if node.free is None else f", {node.free >> 20} MiB free"
    why = f"node {node.number}{memory}; vCPUs share {shared}; {rest}"
    rank = (caches, 0 if others else 1, -(node.free or 0))
    chosen = Chosen(
        tuple(cpu.number for cpu in picked), tuple(cpu.number for cpu in others or picked), node.number, why
    )
    return rank, chosen


def _pick(free: list[HostCpu], wish: Wish) -> list[HostCpu] | None:
    """Processors for the vCPUs in order: within one cache if one is large enough, the smallest of those."""
    by_cache: dict[str, list[HostCpu]] = defaultdict(list)
    for cpu in free:
        by_cache[cpu.cache].append(cpu)
    groups = sorted(by_cache.values(), key=lambda group: (len(group), group[0].number))
    for group in (*groups, free):
        found = _in_group(group, wish)
        if found is not None:
            return found
    return None


def _in_group(group: list[HostCpu], wish: Wish) -> list[HostCpu] | None:
    """Sibling vCPUs on sibling processors; single ones on a core each while there are cores."""
    cores: dict[str, list[HostCpu]] = defaultdict(list)
    for cpu in group:
        cores[cpu.core].append(cpu)
    if wish.threads > 1:
        full = [siblings[: wish.threads] for siblings in cores.values() if len(siblings) >= wish.threads]
        flat = [cpu for siblings in full for cpu in siblings]
    else:
        width = 1 if wish.whole_cores else max((len(siblings) for siblings in cores.values()), default=0)
        flat = [siblings[turn] for turn in range(width) for siblings in cores.values() if turn < len(siblings)]
    return flat[: wish.vcpus] if len(flat) >= wish.vcpus else None


def _node_words(host: HostTopology, node: HostNode, taken: frozenset[int]) -> str:
    count = sum(cpu.node == node.number and cpu.number not in taken for cpu in host.cpus)
    memory = "memory unknown" if node.free is None else f"{node.free >> 20} MiB"
    return f"node {node.number}: {count} processors, {memory}"


def as_list(numbers: Iterable[int]) -> str:
    """{0, 1, 2, 8} -> ``0-2,8``."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)

"""What a VM takes of its host's memory, before it is started.

Sources: Linux ``Documentation/arch/x86/tdx.rst`` ("Memory consumption": PAMT, about 1/256 of all memory), AMD APM
volume 2, 15.36.3 (RMP, 16 bytes per 4 KiB page), Linux ``arch/x86/coco/mem_encrypt.c`` (bounce buffer: 6 % of memory,
64 MiB to 1 GiB). Both tables are taken at the host's boot for all of its memory; shown is this VM's share.
"""

from __future__ import annotations

from launcher.core.limits import overhead
from launcher.core.vm import VmConfig
from policy.named import NamedTuple
from policy.vocab import Platform

_MIB, _GIB = 1 << 20, 1 << 30


class MemoryCost(NamedTuple):
    """Bytes. ``private``: never swapped, never reclaimed. ``shared``: what the guest converts, at least its bounce
    buffer. ``table``: its share of RMP or PAMT, reserved already. ``qemu``: the process itself.
    """

    private: int
    shared: int
    bounce: int
    table: int
    qemu: int

    @property
    def total(self) -> int:
        """What must be free when it starts; the tables are taken already. A page is private or shared, not both."""
        return self.private + self.shared + self.qemu


def cost_of(config: VmConfig) -> MemoryCost:
    """Of the VM a file describes."""
    return memory_cost(config.platform, config.memory, filled=config.ram.filled, swiotlb=config.guest.swiotlb)


def memory_cost(platform: Platform, memory: int, *, filled: bool = False, swiotlb: int | None = None) -> MemoryCost:
    """For ``memory`` bytes of guest memory; ``filled``: the shared half at the start, and it stays so. ``swiotlb``: the
    size of the bounce buffer, where the VM file has one.
    """
    if platform not in (Platform.SEV_SNP, Platform.TDX):
        return MemoryCost(0, memory, 0, 0, overhead(memory))
    bounce = swiotlb or min(max(memory * 6 // 100, 64 * _MIB), _GIB, memory)
    if filled:
        return MemoryCost(memory, memory, bounce, memory // 256, overhead(memory))
    return MemoryCost(memory - bounce, bounce, bounce, memory // 256, overhead(memory))  # 16 in 4096, and about as much

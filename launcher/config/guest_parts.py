"""``[guest] swiotlb`` and what ``[guest]`` and the command line mean together."""

from __future__ import annotations

from launcher.config.sizes import parse_size
from launcher.core.cautions import speaks
from launcher.core.vm import VmConfig
from policy.table import Problems, Table

SEGMENT, LEAST, MOST = 1 << 20, 1 << 20, 64 << 30
"""Bytes. The kernel hands out slots of 2 KiB in segments of 256 KiB."""
KERNELS_OWN = 64 << 20
"""Linux ``IO_TLB_DEFAULT_SIZE``: a size that is just that counts as none given, and a protected guest's kernel then
takes 6 % of its memory (``swiotlb_adjust_size``).
"""


def swiotlb(table: Table) -> int | None:
    """The size of the bounce buffers, bytes."""
    if not table.has("swiotlb"):
        return None
    text = table.value("swiotlb", str, want='a size such as "256MiB"') or ""
    size = parse_size(text)
    if size is None or size % SEGMENT or not LEAST <= size <= MOST:
        table.problem("swiotlb", f'got {text[:40]!r}, want whole MiB, 1MiB to 64GiB, such as "256MiB"')
        return None
    if size == KERNELS_OWN:
        table.problem("swiotlb", "got 64MiB, which the kernel takes for no wish at all: want another size")
    return size


def check_kernel_words(config: VmConfig, problems: Problems) -> None:
    """``swiotlb`` and ``console`` become words of the kernel's command line."""
    boot, guest = config.boot, config.guest
    if boot.kernel is None and (guest.swiotlb is not None or not guest.console):
        problems.add("$.guest", "swiotlb and console are words on a kernel's command line, but there is no kernel")
    if guest.swiotlb is not None and any(word.startswith("swiotlb=") for word in boot.cmdline.split()):
        problems.add("$.guest.swiotlb", "$.boot.cmdline has a swiotlb= already")
    if guest.swiotlb is not None and guest.swiotlb > config.memory // 2:
        problems.add("$.guest.swiotlb", f"got {guest.swiotlb >> 20} MiB, want at most half of the memory")
    if not guest.console and speaks(boot.cmdline):
        problems.add("$.guest.console", "false, but $.boot.cmdline names a console")

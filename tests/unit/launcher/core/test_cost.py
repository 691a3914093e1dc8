"""The memory a VM takes of its host."""

from __future__ import annotations

import pytest

from launcher.core.cost import memory_cost
from launcher.core.limits import overhead
from policy.vocab import Platform

GIB = 1 << 30


@pytest.mark.parametrize("platform", [Platform.SEV_SNP, Platform.TDX])
@pytest.mark.parametrize(("memory", "bounce"), [(GIB // 8, 64 << 20), (4 * GIB, 4 * GIB * 6 // 100), (64 * GIB, GIB)])
def test_a_page_of_a_protected_guest_is_private_or_shared(platform: Platform, memory: int, bounce: int) -> None:
    cost = memory_cost(platform, memory)
    assert cost.bounce == cost.shared == bounce
    assert cost.private + cost.shared == memory
    assert cost.table == memory // 256
    assert cost.total == memory + overhead(memory)


def test_an_ordinary_guest_has_no_private_memory() -> None:
    cost = memory_cost(Platform.NONE, GIB)
    assert (cost.private, cost.bounce, cost.table) == (0, 0, 0)
    assert cost.shared == GIB

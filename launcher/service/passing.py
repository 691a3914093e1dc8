"""Passthrough, looked at before anything is touched: what is missing on this host, and what will be slow."""

from __future__ import annotations

from pathlib import Path

from launcher.core.capability import FAIL, Finding
from launcher.core.caution import Caution
from launcher.core.hardware import Placement
from launcher.core.limits import cpu_list
from launcher.core.vm import VmConfig
from launcher.io.vfio import PassthroughImpossible, check_groups


def passthrough_findings(
    config: VmConfig, placement: Placement, root: Path = Path("/")
) -> tuple[tuple[Finding, ...], tuple[Caution, ...]]:
    """(blockers, warnings)."""
    try:
        found = check_groups(config.passthrough, root)
    except PassthroughImpossible as exc:
        why = "a device is given to a VM with its whole IOMMU group"
        return (Finding(exc.code, FAIL, exc.message, why, exc.hint or "", (config.platform.value,)),), ()
    nodes = cpu_list(placement.mems) if placement.mems else frozenset()
    far = [item for item in found if nodes and item.node >= 0 and item.node not in nodes]
    where = f"memory comes from node {placement.mems}: slower DMA"
    return (), tuple(
        Caution("passthrough.far", f"passthrough: {item.address} is on node {item.node}, {where}") for item in far
    )

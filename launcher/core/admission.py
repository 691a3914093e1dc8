"""Whether a host has room for one more VM: memory that is promised already, and memory encryption keys.

Private memory is neither swapped nor reclaimed, so it counts in full, also while the guest has not touched it.
Source: Linux ``Documentation/admin-guide/cgroup-v2.rst``, "Misc" (``sev_es`` counts SEV-SNP guests).
"""

from __future__ import annotations

from launcher.core.capability import FAIL, Finding
from launcher.core.cost import cost_of
from launcher.core.limits import KEY_RESOURCE
from launcher.core.vm import VmConfig
from policy.named import NamedTuple
from policy.vocab import Platform


class Occupied(NamedTuple):
    """``promised``: bytes of all other VMs that are up. ``keys``: resource -> (capacity, in use)."""

    promised: int
    keys: dict[str, tuple[int, int]]


class KeySlots(NamedTuple):
    """What holds a VM's memory encryption key: a ``resource`` of cgroup v2, how many there are and are in use; ``None``
    where the host does not say.
    """

    resource: str
    capacity: int | None
    used: int | None


def key_slots(config: VmConfig, occupied: Occupied) -> KeySlots | None:
    """Of the key this VM needs; ``None`` for one without."""
    resource = KEY_RESOURCE.get(config.platform)
    return None if resource is None else KeySlots(resource, *occupied.keys.get(resource, (None, None)))


def admission(config: VmConfig, memory_total: int | None, occupied: Occupied) -> tuple[Finding, ...]:
    """What is in the way; nothing for an ordinary VM that may overcommit memory."""
    return (*_memory(config, memory_total, occupied.promised), *_keys(config, key_slots(config, occupied)))


def _memory(config: VmConfig, total: int | None, promised: int) -> tuple[Finding, ...]:
    must_fit = config.platform in (Platform.SEV_SNP, Platform.TDX) or not config.ram.overcommit
    cost = cost_of(config).total
    if total is None or not must_fit or promised + cost <= total:
        return ()
    seen = f"{total >> 20} MiB in all, {promised >> 20} MiB promised to VMs that are up, {cost >> 20} MiB wanted"
    why = "this VM's memory is never given back while it runs"
    return (
        Finding("admission.memory", FAIL, seen, why, "stop a VM, or choose a smaller one", (config.platform.value,)),
    )


def _keys(config: VmConfig, slots: KeySlots | None) -> tuple[Finding, ...]:
    if slots is None or slots.capacity is None or slots.used is None or slots.used < slots.capacity:
        return ()
    fix = "stop a protected VM; for SEV-SNP the BIOS divides ASIDs between SEV and SEV-ES/SNP"
    why = "every protected VM needs a memory encryption key of its own"
    seen = f"{slots.resource}: {slots.used} of {slots.capacity} in use"
    return (Finding("admission.keys", FAIL, seen, why, fix, (config.platform.value,)),)

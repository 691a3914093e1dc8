"""QEMU's command line, built from a :class:`launcher.core.spec.VmSpec`. Pure and deterministic: golden files watch it.

Objects with nested or binary members are JSON (the ``k=v`` form cannot nest, and JSON needs no comma doubling).
Sources: QEMU 11.1 ``qemu-system-x86_64(1)``, QAPI schema ``qom.json``, ``block-core.json``.
"""

from __future__ import annotations

from launcher.core.argv.devices import network, ports, tpm, vsock
from launcher.core.argv.extras import extras
from launcher.core.argv.machine import boot, identity, machine, monitor, protection, safety
from launcher.core.spec import VmSpec


def qemu_options(spec: VmSpec) -> tuple[str, ...]:
    """Every option after the binary's name."""
    return (
        *identity(spec),
        *machine(spec),
        *protection(spec),
        *boot(spec),
        *_disks(spec),
        *network(spec),
        *ports(spec),
        *tpm(spec),
        *vsock(spec),
        *extras(spec),
        *monitor(spec),
        *safety(spec),
    )


def _disks(spec: VmSpec) -> tuple[str, ...]:
    if not spec.disks and not spec.throttles:
        return ()
    from launcher.core.argv.disks import disks  # a VM without any starts sooner

    return disks(spec)


__all__ = ["qemu_options"]

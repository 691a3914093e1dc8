"""Open what a VM's QEMU shall find open: its wire, passt's socket, the vsock device, PCI functions.

Undone when QEMU has ended. The vsock device comes first: its address is part of the command line, which is written down
before anything is started.
What opens each is imported for the VMs that have it: this is on the way of every launch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from launcher.core.argv import qemu_options
from launcher.core.network import FIRST_FD, PASST, VSOCK_FD, Net
from launcher.core.vm import VmConfig
from launcher.io.isolation import Fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.service.planning import Prepared


@contextmanager
def addressed(prepared: Prepared, say: Callable[[str], None]) -> Iterator[tuple[Prepared, Fds]]:
    """The same VM with the vsock address that was free, and the descriptor that holds it. Raises
    :class:`launcher.io.iproute.NetworkRefused`.
    """
    plan, vsock = prepared.plan, prepared.config.vsock
    wanted = plan.spec.vsock_cid
    if wanted is None:
        yield prepared, ()
        return
    from launcher.io.vsock import open_vsock

    descriptor, cid = open_vsock(wanted, exactly=vsock is not None and vsock.cid is not None)
    try:
        if cid != wanted:
            say(f"vsock address: {cid}, for {wanted} is taken")
            spec = plan.spec._replace(vsock_cid=cid)
            prepared = prepared._replace(plan=plan._replace(spec=spec, options=qemu_options(spec)))
        yield prepared, ((descriptor, VSOCK_FD),)
    finally:
        os.close(descriptor)


@contextmanager
def connected(config: VmConfig, folder: str) -> Iterator[Fds]:
    """The descriptors of network and PCI functions. Raises :class:`launcher.io.iproute.NetworkRefused`."""
    with contextlib.ExitStack() as undo:
        fds: list[tuple[int, int]] = []
        if config.net is not None:
            queues = _network(config.net, folder, undo)
            fds += [(descriptor, FIRST_FD + number) for number, descriptor in enumerate(queues)]
        if config.passthrough:
            from launcher.io.vfio import taken

            fds += undo.enter_context(taken(config.passthrough))
        yield tuple(fds)


def _network(net: Net, folder: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    if net.wire:
        from launcher.io.netdev import wire

        return undo.enter_context(wire(net, folder))
    if net.backend == PASST:
        from launcher.io.passt import passt

        return undo.enter_context(passt(net, folder))
    return ()

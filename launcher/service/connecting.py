"""Open what a VM's QEMU shall find open: its wire, passt's socket, the vsock device, PCI functions.

Undone when QEMU has ended. What opens each is imported for the VMs that have it: this is on the way of every launch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from launcher.core.network import FIRST_FD, PASST, VSOCK_FD, Net
from launcher.core.spec import VmSpec
from launcher.core.vm import VmConfig
from launcher.io.isolation import Fds


class Connection(NamedTuple):
    """``spec`` with the vsock address that was free, and the descriptors QEMU gets."""

    spec: VmSpec
    fds: Fds


@contextmanager
def connected(config: VmConfig, spec: VmSpec, folder: str) -> Iterator[Connection]:
    """Before QEMU starts. Raises :class:`launcher.io.iproute.NetworkRefused`."""
    with contextlib.ExitStack() as undo:
        fds: list[tuple[int, int]] = []
        if config.net is not None:
            queues = _network(config.net, folder, undo)
            fds += [(descriptor, FIRST_FD + number) for number, descriptor in enumerate(queues)]
        if spec.vsock_cid is not None:
            from launcher.io.vsock import open_vsock

            exactly = config.vsock is not None and config.vsock.cid is not None
            descriptor, cid = open_vsock(spec.vsock_cid, exactly=exactly)
            undo.callback(os.close, descriptor)
            fds.append((descriptor, VSOCK_FD))
            spec = spec._replace(vsock_cid=cid)
        if spec.passthrough:
            from launcher.io.vfio import taken

            fds += undo.enter_context(taken(spec.passthrough))
        yield Connection(spec, tuple(fds))


def _network(net: Net, folder: str, undo: contextlib.ExitStack) -> tuple[int, ...]:
    if net.wire:
        from launcher.io.netdev import wire

        return undo.enter_context(wire(net, folder))
    if net.backend == PASST:
        from launcher.io.passt import passt

        return undo.enter_context(passt(net, folder))
    return ()

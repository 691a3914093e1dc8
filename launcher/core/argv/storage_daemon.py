"""The command line of the storage daemon: it holds everything that talks to a storage server, QEMU holds none of it.

Each network copy of a disk is opened here, format included, and exported as plain bytes over NBD on a unix socket in
the VM's folder. So keys, certificates and the network stay out of the process the guest talks to.
Source: ``qemu-storage-daemon(1)``, QAPI ``block-export.json``.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core.argv.nodes import Node, format_node, network_node
from launcher.core.argv.words import json_text
from launcher.core.spec import VmSpec
from launcher.core.storage import IscsiSource, NbdSource, Network, RbdSource
from launcher.core.vm import Disk

SOCKET = "nbd.sock"
"""In the daemon's own folder, below the VM's."""


def daemon_options(spec: VmSpec) -> tuple[str, ...]:
    """Every option after the binary's name; empty when no disk is on a network."""
    found = list(network_copies(spec))
    if not found:
        return ()
    server = {"addr": {"type": "unix", "path": SOCKET}, "max-connections": len(found) + 1}
    options: list[str] = []
    for disk, export, source in found:
        options += [word for item in _objects(source, export) for word in ("--object", json_text(item))]
        options += ["--blockdev", json_text(_node(disk, export, source))]
    options += ["--nbd-server", json_text(server)]
    for disk, export, _source in found:
        node = {
            "type": "nbd", "id": f"export-{export}", "node-name": f"disk-{export}", "name": export,
            "writable": not disk.readonly,
        }  # fmt: skip
        options += ["--export", json_text(node)]
    return tuple(options)


def network_copies(spec: VmSpec) -> Iterator[tuple[Disk, str, Network]]:
    """(disk, name of its export, source) of every copy behind a network."""
    for number, disk in enumerate(spec.disks):
        for copy, backing in enumerate(disk.copies):
            if backing.network is not None:
                yield disk, f"{number}-{copy}", backing.network


def _node(disk: Disk, export: str, source: Network) -> Node:
    backing = disk.copies[int(export.partition("-")[2])]
    return format_node(backing, disk, f"disk-{export}", network_node(source, export))


def _objects(source: Network, export: str) -> Iterator[Node]:
    if isinstance(source, NbdSource) and source.tls is not None:
        yield {"qom-type": "tls-creds-x509", "id": f"tls-{export}", "endpoint": "client", "dir": source.tls,
               "verify-peer": True}  # fmt: skip
    if isinstance(source, RbdSource) and source.key_file is not None:
        # QEMU encodes the secret before it hands it on, so it has to decode what Ceph writes into key files
        yield {"qom-type": "secret", "id": f"key-{export}", "format": "base64", "file": source.key_file}
    if isinstance(source, IscsiSource) and source.password_file is not None:
        yield {"qom-type": "secret", "id": f"key-{export}", "file": source.password_file}

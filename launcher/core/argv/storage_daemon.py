"""The command line of the storage daemon: it holds everything that talks to a storage server, QEMU holds none of it.

Each network copy of a disk is opened here, format included, and exported as plain bytes over NBD on a unix socket in
the VM's folder. So keys, certificates and the network stay out of the process the guest talks to.
Source: ``qemu-storage-daemon(1)``, QAPI ``block-export.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.core.argv.nodes import QCOW2, Node, format_node, network_node
from launcher.core.argv.words import json_text
from launcher.core.spec import VmSpec
from launcher.core.storage import Backing, IscsiSource, NbdSource, Network, RbdSource
from launcher.core.vm import Disk
from policy.named import NamedTuple

SOCKET = "nbd.sock"
"""In the daemon's own folder, below the VM's."""


def daemon_options(spec: VmSpec) -> tuple[str, ...]:
    """Every option after the binary's name; empty when no disk is on a network."""
    return _options(
        [
            _Export(export, source, _node(disk, export, source), writable=not disk.readonly)
            for disk, export, source in network_copies(spec)
        ]
    )


def image_options(spec: VmSpec) -> tuple[str, ...]:
    """As :func:`daemon_options`, of images on a network only, as the bytes they are: for who looks at their headers
    before anything opens what those name. Empty when there are none.
    """
    return _options(
        [
            _Export(export, source, _bare_node(export, source), writable=False)
            for disk, export, source in network_copies(spec)
            if exported(disk, export).format == QCOW2
        ]
    )


class _Export(NamedTuple):
    name: str
    source: Network
    node: Node
    writable: bool


def _options(exports: Sequence[_Export]) -> tuple[str, ...]:
    if not exports:
        return ()
    server = {"addr": {"type": "unix", "path": SOCKET}, "max-connections": len(exports) + 1}
    options: list[str] = []
    for item in exports:
        options += [word for found in _objects(item.source, item.name) for word in ("--object", json_text(found))]
        options += ["--blockdev", json_text(item.node)]
    options += ["--nbd-server", json_text(server)]
    for item in exports:
        node = {
            "type": "nbd", "id": f"export-{item.name}", "node-name": f"disk-{item.name}", "name": item.name,
            "writable": item.writable,
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
    return format_node(exported(disk, export), disk, f"disk-{export}", network_node(source, export))


def _bare_node(export: str, source: Network) -> Node:
    return {**network_node(source, export), "node-name": f"disk-{export}", "read-only": True}


def exported(disk: Disk, export: str) -> Backing:
    """The copy of ``disk`` that is exported under this name."""
    return disk.copies[int(export.partition("-")[2])]


def _objects(source: Network, export: str) -> Iterator[Node]:
    if isinstance(source, NbdSource) and source.tls is not None:
        yield {"qom-type": "tls-creds-x509", "id": f"tls-{export}", "endpoint": "client", "dir": source.tls,
               "verify-peer": True}  # fmt: skip
    if isinstance(source, RbdSource) and source.key_file is not None:
        # QEMU encodes the secret before it hands it on, so it has to decode what Ceph writes into key files
        yield {"qom-type": "secret", "id": f"key-{export}", "format": "base64", "file": source.key_file}
    if isinstance(source, IscsiSource) and source.password_file is not None:
        yield {"qom-type": "secret", "id": f"key-{export}", "file": source.password_file}

"""Block nodes of one copy of a disk, as QEMU and its storage daemon take them (QAPI ``block-core.json``)."""

from __future__ import annotations

from launcher.core.storage import Backing, Endpoint, IscsiSource, NbdSource, Network, NfsSource, RbdSource
from launcher.core.vm import Disk

Node = dict[str, object]
QCOW2 = "qcow2"


def format_node(backing: Backing, disk: Disk, name: str, file: Node) -> Node:
    """The image format over ``file``. Discarded blocks are passed on or not as the disk says. Nothing lies under an
    image, whatever its header says: it was looked at, but may have been changed since.
    """
    discard = "unmap" if disk.discard else "ignore"
    secret = {"key-secret": f"key-{disk.name}"} if backing.format == "luks" else {}
    alone: Node = {"backing": None} if backing.format == QCOW2 else {}
    return {
        "driver": backing.format,
        "node-name": name,
        "read-only": disk.readonly,
        "discard": discard,
        **secret,
        **cache_members(disk),
        **alone,
        "file": file,
    }


def layered_node(disk: Disk, name: str) -> Node:
    """A raw file under its layers: only the newest is written, and which file is under which is said here, whatever the
    images' own headers say.
    """
    below: Node = {**_read_only("raw", disk), "file": file_node(disk.path, disk, device=False)}
    for path in disk.layers[:-1]:
        below = {**_read_only(QCOW2, disk), "file": file_node(path, disk, device=False), "backing": below}
    top = Backing(disk.layers[-1], None, QCOW2)
    return {**format_node(top, disk, name, file_node(top.path, disk, device=False)), "backing": below}


def _read_only(driver: str, disk: Disk) -> Node:
    return {"driver": driver, "read-only": True, **cache_members(disk)}


def file_node(path: str, disk: Disk, *, device: bool) -> Node:
    """A local file, locked against a second writer, or a block device."""
    aio = {} if disk.aio == "threads" else {"aio": disk.aio}
    discard = "unmap" if disk.discard else "ignore"
    return {
        "driver": "host_device" if device else "file",
        "filename": path,
        "locking": "on",
        "discard": discard,
        **aio,
        **cache_members(disk),
    }


def cache_members(disk: Disk) -> Node:
    """How the host's page cache is used; the guest's side of it is the device's ``write-cache``."""
    if disk.cache in ("none", "directsync"):
        return {"cache": {"direct": True}}
    return {"cache": {"no-flush": True}} if disk.cache == "unsafe" else {}


def network_node(source: Network, number: str) -> Node:
    """A server's disk. Secrets and certificates are objects: ``key-N`` and ``tls-N``."""
    if isinstance(source, NbdSource):
        return _nbd(source, number)
    if isinstance(source, RbdSource):
        return _rbd(source, number)
    return _iscsi(source, number) if isinstance(source, IscsiSource) else _nfs(source)


def _nbd(source: NbdSource, number: str) -> Node:
    tls: Node = {} if source.tls is None else {"tls-creds": f"tls-{number}"}
    if source.tls_name is not None:
        tls["tls-hostname"] = source.tls_name
    node: Node = {"driver": "nbd", "server": address(source.server), "reconnect-delay": RECONNECT_SECONDS, **tls}
    return {**node, "export": source.export} if source.export else node


RECONNECT_SECONDS = 30
"""Requests wait this long for a server that went away; then the guest sees errors."""


def address(server: Endpoint) -> Node:
    """SocketAddress; ports are strings."""
    if server.path:
        return {"type": "unix", "path": server.path}
    return {"type": "inet", "host": server.host, "port": str(server.port)}


def _rbd(source: RbdSource, number: str) -> Node:
    optional = {"namespace": source.namespace, "snapshot": source.snapshot, "conf": source.conf}
    node: Node = {"driver": "rbd", "pool": source.pool, "image": source.image, "user": source.user}
    node |= {name: value for name, value in optional.items() if value}
    if source.monitors:
        node["server"] = [{"host": item.host, "port": str(item.port)} for item in source.monitors]
    if source.key_file is not None:
        node["key-secret"] = f"key-{number}"
        node["auth-client-required"] = ["cephx"]
    return node


def _iscsi(source: IscsiSource, number: str) -> Node:
    host = source.portal.host
    node: Node = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": f"[{host}]:{source.portal.port}" if ":" in host else f"{host}:{source.portal.port}",
        "target": source.target,
        "lun": source.lun,
    }
    if source.initiator is not None:
        node["initiator-name"] = source.initiator
    if source.user is not None:
        node |= {"user": source.user, "password-secret": f"key-{number}"}
    return node


def _nfs(source: NfsSource) -> Node:
    node: Node = {"driver": "nfs", "server": {"type": "inet", "host": source.host}, "path": source.file}
    ids = {"user": source.uid, "group": source.gid}
    return node | {name: value for name, value in ids.items() if value is not None}

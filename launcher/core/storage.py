"""Where a disk's bytes come from and how they are carried: the typed form of ``[[disk]]`` beyond its path.

NamedTuples, not dataclasses: this module is on the start-up path of ``cvm measure``.
Source of the words and limits: QEMU 11.1, QAPI ``block-core.json`` and ``qom.json`` (ThrottleLimits).
"""

from __future__ import annotations

from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = ("raw", "qcow2", "luks")
CACHES = ("none", "writeback", "writethrough", "directsync", "unsafe")
AIO = ("threads", "native", "io_uring")
BUSES = ("virtio", "scsi", "nvme", "sata", "ide")
IOTHREAD_BUSES = ("virtio", "scsi")
"""Devices whose requests QEMU can handle in a thread of their own."""


class Endpoint(NamedTuple):
    """A server: ``path`` of a unix socket, or ``host`` and ``port``."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"


class NbdSource(NamedTuple):
    """An NBD export. ``tls``: folder with ca-cert.pem (and client-cert.pem, client-key.pem); ``tls_name``: the name
    the server's certificate must have, ``None`` for the server's host name.
    """

    server: Endpoint
    export: str = ""
    tls: str | None = None
    tls_name: str | None = None


class RbdSource(NamedTuple):
    """An image of a Ceph cluster. ``conf``: a ceph.conf, or ``monitors`` and ``key_file`` (the user's base64 key)."""

    pool: str
    image: str
    namespace: str = ""
    snapshot: str = ""
    user: str = "admin"
    conf: str | None = None
    monitors: tuple[Endpoint, ...] = ()
    key_file: str | None = None


class IscsiSource(NamedTuple):
    """A logical unit. ``password_file``: of CHAP, with ``user``."""

    portal: Endpoint
    target: str
    lun: int = 0
    initiator: str | None = None
    user: str | None = None
    password_file: str | None = None


class NfsSource(NamedTuple):
    """A file on an NFS version 3 server; ``file`` is the absolute path there. ``uid``, ``gid``: as whom."""

    host: str
    file: str
    uid: int | None = None
    gid: int | None = None


Network = NbdSource | RbdSource | IscsiSource | NfsSource
KIND = {NbdSource: "nbd", RbdSource: "rbd", IscsiSource: "iscsi", NfsSource: "nfs"}


class Backing(NamedTuple):
    """One copy of a disk: a local ``path`` or, where that is empty, ``network``."""

    path: str = ""
    network: Network | None = None
    format: str = "raw"

    @property
    def is_device(self) -> bool:
        """A block device of the host: dm-cache, bcache, LVM, multipath and partitions all look like this."""
        return self.path.startswith("/dev/") and not self.path.startswith("/dev/shm/")  # noqa: S108  nothing is written there

    @property
    def shown(self) -> str:
        """For a person."""
        return self.path if self.network is None else describe(self.network)


class Replicas(NamedTuple):
    """Further copies beside the disk's own. ``votes``: how many must agree on every read, and take every write.
    ``read_first``: read one copy only, and another one only where that fails.
    """

    copies: tuple[Backing, ...]
    votes: int
    read_first: bool = False


_DIRECTIONS = ("total", "read", "write")
LIMIT_NAMES = tuple(f"{kind}-{direction}" for kind in ("iops", "bps") for direction in _DIRECTIONS)


class Limit(NamedTuple):
    """Operations or bytes per second; ``burst`` of them for ``seconds``. 0: no limit, no burst."""

    rate: int = 0
    burst: int = 0
    seconds: int = 1


class Throttle(NamedTuple):
    """The limits of one group, in the order of :data:`LIMIT_NAMES`. ``iops_size``: a larger request counts as several
    (bytes, 0: every request is one).
    """

    limits: tuple[Limit, ...] = (Limit(),) * len(LIMIT_NAMES)
    iops_size: int = 0

    def qapi(self) -> dict[str, int]:
        """ThrottleLimits, every member: what is left out would stay as it was when limits change."""
        found: dict[str, int] = {}
        for name, limit in zip(LIMIT_NAMES, self.limits, strict=True):
            found[name] = limit.rate
            found[f"{name}-max"] = limit.burst
            found[f"{name}-max-length"] = limit.seconds
        found["iops-size"] = self.iops_size
        return found

    def changed(self, changes: Mapping[str, int]) -> Throttle:
        """With some members of ThrottleLimits replaced; names are :meth:`qapi`'s."""
        merged = {**self.qapi(), **changes}
        limits = (Limit(merged[name], merged[f"{name}-max"], merged[f"{name}-max-length"]) for name in LIMIT_NAMES)
        return Throttle(tuple(limits), merged["iops-size"])

    @property
    def shown(self) -> str:
        """Such as ``iops-total 500, bps-read 1048576 (burst 2097152 for 10 s)``."""
        parts = []
        for name, limit in zip(LIMIT_NAMES, self.limits, strict=True):
            if limit.rate:
                burst = f" (burst {limit.burst} for {limit.seconds} s)" if limit.burst else ""
                parts.append(f"{name} {limit.rate}{burst}")
        return ", ".join(parts) or "no limits"

    def problems(self) -> tuple[tuple[str, str], ...]:
        """What QEMU would refuse, as (name of the limit, text)."""
        by_name = dict(zip(LIMIT_NAMES, self.limits, strict=True))
        found = []
        for kind in ("iops", "bps"):
            parts = [by_name[f"{kind}-{direction}"].rate for direction in ("read", "write")]
            if by_name[f"{kind}-total"].rate and any(parts):
                found.append((f"{kind}-total", "a total and a limit of one direction exclude each other"))
        for name, limit in by_name.items():
            if limit.burst and not limit.rate:
                found.append((name, "a burst without a limit"))
            elif limit.burst and limit.burst <= limit.rate:
                found.append((name, f"a burst of {limit.burst} is not above the limit of {limit.rate}"))
            elif limit.seconds > 1 and not limit.burst:
                found.append((name, "seconds of a burst that is not there"))
        if self.iops_size and not any(by_name[f"iops-{direction}"].rate for direction in _DIRECTIONS):
            found.append(("iops-size", "counts requests, but no iops limit is set"))
        return tuple(found)


def describe(network: Network) -> str:
    """A network source for a person: a URL without secrets."""
    if isinstance(network, NbdSource):
        return f"nbd+{network.server}/{network.export}{' with TLS' if network.tls else ''}"
    if isinstance(network, RbdSource):
        where = "/".join(part for part in (network.pool, network.namespace, network.image) if part)
        return f"rbd:{where}{f'@{network.snapshot}' if network.snapshot else ''}"
    if isinstance(network, IscsiSource):
        return f"iscsi://{network.portal.host}:{network.portal.port}/{network.target}/{network.lun}"
    return f"nfs://{network.host}{network.file}"

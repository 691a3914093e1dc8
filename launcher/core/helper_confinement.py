"""What the processes beside QEMU may touch: the storage daemon, the TPM, shared folders. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core import names
from launcher.core.argv.storage_daemon import network_copies
from launcher.core.confinement import DEVICES, NAMESPACES, RESOLVER, SYSTEM_TOOLS, Confinement, tools
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.hardware import Share
from launcher.core.spec import VmSpec
from launcher.core.storage import IscsiSource, NbdSource, Network, RbdSource


def storage_confinement(settings: IsolationSettings, spec: VmSpec, qemu: QemuFacts) -> Confinement:
    """The least that runs the storage daemon: its servers' ports where they are known, no disk of the host, no KVM."""
    sources = [source for _disk, _export, source in network_copies(spec)]
    ports = [_port(source) for source in sources]
    tcp = any(port != 0 for port in ports)
    known = None if None in ports else tuple(sorted({port for port in ports if port}))
    return Confinement(
        settings,
        (*NAMESPACES, *(() if tcp else ("net",))),
        (*tools(qemu), *((path, kind) for source in sources for path, kind in _source_paths(source))),
        (
            *(((path, "tools") for path in SYSTEM_TOOLS) if qemu.source == "system" else ()),
            *((path, "device") for path in DEVICES),
            *(((path, "read") for path in RESOLVER) if tcp else ()),
            *((path, "read") for source in sources for path in _client_files(source)),
        ),
        (),
        tcp,
        (("CORE", 0), ("NOFILE", 4096), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", 512)),
        known if tcp else None,
    )


def tpm_confinement(settings: IsolationSettings) -> Confinement:
    """The least that runs swtpm: the system's programs, a folder for what it remembers, no network."""
    return Confinement(
        settings,
        (*NAMESPACES, "net"),
        (),
        (*((path, "tools") for path in SYSTEM_TOOLS), *((path, "device") for path in DEVICES)),
        ((names.VTPM_STATE, "state"),),
        False,
        (("CORE", 0), ("NOFILE", 64), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", 512)),
    )


_OWN_PROC = (("/proc/self/fd", "shown"), ("/proc/sys/fs/nr_open", "read"))
"""virtiofsd opens again what it has found by its own descriptors, and asks how many it may have; nothing else of
``/proc`` is there."""


def share_confinement(settings: IsolationSettings, share: Share, qemu: QemuFacts) -> Confinement:
    """The least that runs virtiofsd: the one folder (what is mounted below it stays out), no network. Guests make it
    keep every file they have looked at open.
    """
    return Confinement(
        settings,
        (*NAMESPACES, "net"),
        (*tools(qemu), (share.path, "shown" if share.readonly else "shared"), *_OWN_PROC),
        (
            *(((path, "tools") for path in SYSTEM_TOOLS) if qemu.source == "system" else ()),
            *((path, "device") for path in DEVICES),
        ),
        (),
        False,
        (("CORE", 0), ("NOFILE", 1 << 20), ("MSGQUEUE", 0), ("RTPRIO", 0)),
    )


def _port(source: Network) -> int | None:
    """The TCP port of a source; 0 for a unix socket, ``None`` where the server names further ones."""
    if isinstance(source, NbdSource):
        return source.server.port
    return source.portal.port if isinstance(source, IscsiSource) else None


def _source_paths(source: Network) -> Iterator[tuple[str, str]]:
    if isinstance(source, NbdSource):
        if source.server.path:
            yield source.server.path, "socket"
        if source.tls is not None:
            yield f"{source.tls}/ca-cert.pem", "read"
    secret = source.key_file if isinstance(source, RbdSource) else None
    secret = source.password_file if isinstance(source, IscsiSource) else secret
    if secret is not None:
        yield secret, "read"
    if isinstance(source, RbdSource) and source.conf is not None:
        yield source.conf, "read"


def _client_files(source: Network) -> tuple[str, ...]:
    """What a TLS folder may hold besides the authority (names are QEMU's)."""
    if not isinstance(source, NbdSource) or source.tls is None:
        return ()
    return tuple(f"{source.tls}/{name}.pem" for name in ("ca-crl", "client-cert", "client-key"))

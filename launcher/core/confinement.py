"""What QEMU itself may touch: decided here from the VM, carried out by ``launcher.io.jail``.

Paths have a kind: ``tools`` (read and execute), ``read``, ``write``, ``device``, ``folder`` (make sockets in it),
``socket`` (connect only), ``state`` (a folder whose files are its own), ``shown`` and ``shared`` (a folder with all
that is in it, to read or to change). Nothing that is not listed exists for QEMU.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.core import names
from launcher.core.argv.storage_daemon import network_copies
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.hardware import Placement, Share
from launcher.core.spec import VmSpec
from launcher.core.storage import IscsiSource, NbdSource, Network, RbdSource
from policy.named import NamedTuple
from policy.vocab import Platform

NAMESPACES = ("mount", "uts", "ipc", "pid")
ESSENTIAL = ("mount namespace", "pid namespace", "ipc namespace", "uts namespace", "private root", "rlimits",
             "capabilities", "capabilities after exec", "no_new_privs", "landlock")  # fmt: skip
"""Steps without which ``mode = "strict"`` does not start. ``own user`` joins them where the launcher is root."""
_SYSTEM_TOOLS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/qemu")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")


class Confinement(NamedTuple):
    """``paths``: (absolute path, kind), ``optional`` ones may be missing. ``tcp``: may use TCP; otherwise it has a
    network namespace of its own. ``files``: names in the VM's folder with their kinds.
    """

    settings: IsolationSettings
    namespaces: tuple[str, ...]
    paths: tuple[tuple[str, str], ...]
    optional: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    tcp: bool
    rlimits: tuple[tuple[str, int], ...]
    connect: tuple[int, ...] | None = None
    """With ``tcp``: the only ports it may connect to, and none it may listen on; ``None`` for no such limit."""
    placement: Placement = Placement()


def confinement(settings: IsolationSettings, spec: VmSpec, qemu: QemuFacts) -> Confinement:
    """The least that runs this VM."""
    quotes = spec.tdx.quote_socket if spec.tdx is not None and spec.tdx.quote_socket else ""
    paths = _disk_paths(spec)
    paths += [(path, "read") for path in (spec.firmware, spec.kernel, spec.initrd) if path is not None]
    optional = [(path, "device") for path in _DEVICES]
    if quotes.startswith("unix:"):
        optional.append((quotes.removeprefix("unix:"), "socket"))
    inside = spec.net is not None and spec.net.inside_qemu
    if inside:
        optional += [(path, "read") for path in _RESOLVER]
    private_net = not inside and not quotes.startswith("vsock:")
    files = [(names.SERIAL_LOG, "write")]
    if spec.hash_table_gpa is not None:
        files.append((names.HASH_TABLE, "read"))
    if spec.has_init_data:
        files.append((names.INIT_DATA, "read"))
    return Confinement(
        settings,
        (*NAMESPACES, *(("net",) if private_net else ())),
        (*_tools(qemu), *((path, "device") for path in _devices(spec)), *paths),
        (*(((path, "tools") for path in _SYSTEM_TOOLS) if qemu.source == "system" else ()), *optional),
        tuple(files),
        inside,
        (("CORE", 0), ("NOFILE", 4096), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", spec.vcpus + 256), *_locked(spec)),
    )


def storage_confinement(settings: IsolationSettings, spec: VmSpec, qemu: QemuFacts) -> Confinement:
    """The least that runs the storage daemon: its servers' ports where they are known, no disk of the host, no KVM."""
    sources = [source for _disk, _export, source in network_copies(spec)]
    ports = [_port(source) for source in sources]
    tcp = any(port != 0 for port in ports)
    known = None if None in ports else tuple(sorted({port for port in ports if port}))
    return Confinement(
        settings,
        (*NAMESPACES, *(() if tcp else ("net",))),
        (*_tools(qemu), *((path, kind) for source in sources for path, kind in _source_paths(source))),
        (
            *(((path, "tools") for path in _SYSTEM_TOOLS) if qemu.source == "system" else ()),
            *((path, "device") for path in _DEVICES),
            *(((path, "read") for path in _RESOLVER) if tcp else ()),
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
        (*((path, "tools") for path in _SYSTEM_TOOLS), *((path, "device") for path in _DEVICES)),
        ((names.VTPM_STATE, "state"),),
        False,
        (("CORE", 0), ("NOFILE", 64), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", 512)),
    )


VIRTIOFSD_PATH = "../libexec/virtiofsd"
"""From the folder of QEMU's binary."""
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
        (*_tools(qemu), (share.path, "shown" if share.readonly else "shared"), *_OWN_PROC),
        (
            *(((path, "tools") for path in _SYSTEM_TOOLS) if qemu.source == "system" else ()),
            *((path, "device") for path in _DEVICES),
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


def _disk_paths(spec: VmSpec) -> list[tuple[str, str]]:
    """Local disks, and the key of one that QEMU decrypts."""
    found = [(disk.key_file, "read") for disk in spec.disks if disk.key_file is not None]
    found += [
        (path, "write" if path == disk.layers[-1] else "read")
        for disk in spec.disks
        if disk.layers
        for path in (disk.path, *disk.layers)
    ]
    return found + [
        (backing.path, "read" if disk.readonly else "write")
        for disk in spec.disks
        if not disk.layers
        for backing in disk.copies
        if backing.network is None
    ]


def _locked(spec: VmSpec) -> tuple[tuple[str, int], ...]:
    """A device may write anywhere in the guest's memory, so all of it is pinned for the device."""
    return (("MEMLOCK", spec.memory + (1 << 30)),) if spec.passthrough else ()


def _tools(qemu: QemuFacts) -> tuple[tuple[str, str], ...]:
    if qemu.source == "system":
        return ()
    return ((qemu.argv[0].partition("/usr/")[0] + "/usr", "tools"),)


def _devices(spec: VmSpec) -> tuple[str, ...]:
    kvm = ("/dev/kvm",) if spec.accel == "kvm" else ()
    return (*kvm, "/dev/sev") if spec.platform is Platform.SEV_SNP else kvm

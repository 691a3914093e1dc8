"""What QEMU itself may touch: decided here from the VM, carried out by ``launcher.io.jail``.

Paths have a kind: ``tools`` (read and execute), ``read``, ``write``, ``device``, ``folder`` (make sockets in it),
``socket`` (connect only), ``state`` (a folder whose files are its own), ``shown`` and ``shared`` (a folder with all
that is in it, to read or to change). Nothing that is not listed exists for QEMU.
"""

from __future__ import annotations

from launcher.core import names
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.hardware import Placement
from launcher.core.spec import VmSpec
from policy.named import NamedTuple
from policy.vocab import Platform

NAMESPACES = ("mount", "uts", "ipc", "pid")
ESSENTIAL = ("mount namespace", "pid namespace", "ipc namespace", "uts namespace", "private root", "rlimits",
             "capabilities", "capabilities after exec", "no_new_privs", "landlock")  # fmt: skip
"""Steps without which ``mode = "strict"`` does not start. ``own user`` joins them where the launcher is root."""
SYSTEM_TOOLS = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/qemu")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf")


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
    optional = [(path, "device") for path in DEVICES]
    if quotes.startswith("unix:"):
        optional.append((quotes.removeprefix("unix:"), "socket"))
    inside = spec.net is not None and spec.net.inside_qemu
    if inside:
        optional += [(path, "read") for path in RESOLVER]
    private_net = not inside and not quotes.startswith("vsock:")
    files = [(names.SERIAL_LOG, "write")]
    if spec.hash_table_gpa is not None:
        files.append((names.HASH_TABLE, "read"))
    if spec.has_init_data:
        files.append((names.INIT_DATA, "read"))
    return Confinement(
        settings,
        (*NAMESPACES, *(("net",) if private_net else ())),
        (*tools(qemu), *((path, "device") for path in _devices(spec)), *paths),
        (*(((path, "tools") for path in SYSTEM_TOOLS) if qemu.source == "system" else ()), *optional),
        tuple(files),
        inside,
        (("CORE", 0), ("NOFILE", 4096), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", spec.vcpus + 256), *_locked(spec)),
    )


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


def tools(qemu: QemuFacts) -> tuple[tuple[str, str], ...]:
    """The folder of a QEMU that is not the system's."""
    if qemu.source == "system":
        return ()
    return ((qemu.argv[0].partition("/usr/")[0] + "/usr", "tools"),)


def _devices(spec: VmSpec) -> tuple[str, ...]:
    kvm = ("/dev/kvm",) if spec.accel == "kvm" else ()
    return (*kvm, "/dev/sev") if spec.platform is Platform.SEV_SNP else kvm

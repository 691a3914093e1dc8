"""What QEMU itself may touch: decided here from the VM, carried out by ``launcher.io.jail``.

Paths have a kind: ``tools`` (read and execute), ``read``, ``write``, ``device``, ``folder`` (make sockets in it),
``socket`` (connect only). Nothing that is not listed exists for QEMU.
"""

from __future__ import annotations

from typing import NamedTuple

from launcher.core import names
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.facts import QemuFacts
from launcher.core.spec import VmSpec
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


def confinement(settings: IsolationSettings, spec: VmSpec, qemu: QemuFacts) -> Confinement:
    """The least that runs this VM."""
    quotes = spec.tdx.quote_socket if spec.tdx is not None and spec.tdx.quote_socket else ""
    paths = [(disk.path, "read" if disk.readonly else "write") for disk in spec.disks]
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
    return Confinement(
        settings,
        (*NAMESPACES, *(("net",) if private_net else ())),
        (*_tools(qemu), *((path, "device") for path in _devices(spec)), *paths),
        (*(((path, "tools") for path in _SYSTEM_TOOLS) if qemu.source == "system" else ()), *optional),
        tuple(files),
        inside,
        (("CORE", 0), ("NOFILE", 4096), ("MSGQUEUE", 0), ("RTPRIO", 0), ("NPROC", spec.vcpus + 256)),
    )


def _tools(qemu: QemuFacts) -> tuple[tuple[str, str], ...]:
    if qemu.source == "system":
        return ()
    return ((qemu.argv[0].partition("/usr/")[0] + "/usr", "tools"),)


def _devices(spec: VmSpec) -> tuple[str, ...]:
    kvm = ("/dev/kvm",) if spec.accel == "kvm" else ()
    return (*kvm, "/dev/sev") if spec.platform is Platform.SEV_SNP else kvm

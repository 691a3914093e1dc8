"""The kernel command line: the owner's words, a console, and the agent's orders. All of it is measured."""

from __future__ import annotations

from binascii import b2a_base64

from launcher.core.network import Net
from launcher.core.vm import VmConfig
from launcher.errors import PlanRefused
from policy.named import NamedTuple
from policy.vocab import Platform

# x86 keeps COMMAND_LINE_SIZE = 2048 bytes with the NUL; the EFI stub path puts "initrd=initrd " in front.
SWIOTLB_SLOT = 2048
"""Linux ``IO_TLB_SIZE``: swiotlb= counts these."""
LIMIT = 2047 - len("initrd=initrd ")
GUEST_ADDRESS, GATEWAY = "10.0.2.15/24", "10.0.2.2"
"""QEMU's user network: the guest, and the host's loopback as the guest sees it."""
NAME_SERVER = "10.0.2.3"
_LOUDNESS = frozenset(("quiet", "debug", "loglevel", "ignore_loglevel"))
_SELF_TESTS = frozenset(("cryptomgr.notests", "fips"))
"""Linux ``crypto/algboss.c`` (notests); ``alg_test`` of ``crypto/testmgr.c`` does not obey it in FIPS mode."""
_HOT_PLUG = ("memhp_default_state=online", "memory_hotplug.online_policy=auto-movable")
"""Linux ``Documentation/admin-guide/mm/memory-hotplug.rst``: by its default policy the kernel
prefers memory beyond 4 GiB for what it can never move, and a module that holds such a page cannot be given back.
"""
_TRACING = frozenset(("initcall_blacklist", "trace_event", "ftrace"))
_TRACE_NAMES = "trace_eval_init"
"""Linux ``kernel/trace/trace.c``: replaces names of constants in the formats of trace events."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class CommandLine(NamedTuple):
    """The text, and the choices in it as (what, value, reason)."""

    text: str
    choices: tuple[tuple[str, str, str], ...]


def compose(config: VmConfig, ca_der: bytes | None) -> CommandLine:
    """The command line of a VM that boots a kernel. ``ca_der`` is the pinned CA certificate, DER.

    Raises :class:`PlanRefused` when the kernel would cut it off.
    """
    words = [config.boot.cmdline] if config.boot.cmdline.strip() else []
    written = {word.partition("=")[0] for word in config.boot.cmdline.split()}
    choices: list[tuple[str, str, str]] = []
    if not config.guest.console:
        words.append("console=null")
        choices.append(("console", "none", "the VM file says so: what the guest prints stays in it"))
    elif not any(word.startswith("console=") for word in config.boot.cmdline.split()):
        words.append("console=ttyS0")
        choices.append(("console", "ttyS0", "the command line names none"))
    if config.light:
        words += _light(written, choices)
    if config.ram.max is not None:
        words += _growing(written, choices)
    if config.guest.swiotlb is not None:
        words.append(f"swiotlb={config.guest.swiotlb // SWIOTLB_SLOT}")
        choices.append(("bounce buffers", f"{config.guest.swiotlb >> 20} MiB", "the VM file says so; measured"))
    words += _orders(config, ca_der, choices)
    text = " ".join(words)
    if len(text) > LIMIT:
        ca_size = f", of which the CA certificate takes {len(_base64(ca_der))}" if ca_der else ""
        raise PlanRefused(
            f"kernel command line: {len(text)} characters{ca_size}, want at most {LIMIT}: the kernel cuts the rest off",
            code="kernel.cmdline-length",
            hint="use a CA certificate with an elliptic-curve key and few extensions",
        )
    return CommandLine(text, tuple(choices))


def _light(written: set[str], choices: list[tuple[str, str, str]]) -> list[str]:
    """What makes a kernel start sooner, unless the owner has ``written`` something about it."""
    words = []
    if not _LOUDNESS & written:
        words.append("loglevel=6")
        choices.append(("console level", "6", "light: notices and worse; a serial port is slow to write to"))
    if not _SELF_TESTS & written:
        words.append("cryptomgr.notests")
        reason = "light: a kernel tests its ciphers at every start, which takes a fifth of it; fips=1 has them tested"
        choices.append(("self-tests of ciphers", "none", reason))
    if not _TRACING & written:
        words.append(f"initcall_blacklist={_TRACE_NAMES}")
        reason = "light: they take an eighth of a start, and only who traces reads them; trace_event= keeps them"
        choices.append(("names in trace formats", "not resolved", reason))
    return words


def _growing(written: set[str], choices: list[tuple[str, str, str]]) -> list[str]:
    """What lets a kernel give back memory it got later, unless the owner has ``written`` something about it."""
    words = [word for word in _HOT_PLUG if word.partition("=")[0] not in written]
    if _HOT_PLUG[1] in words:
        reason = "memory that is plugged in holds nothing of the kernel, up to three times the first size"
        choices.append(("memory hot-plug", "auto-movable", reason))
    return words


def _orders(config: VmConfig, ca_der: bytes | None, choices: list[tuple[str, str, str]]) -> list[str]:
    words = []
    if config.attestation is not None and ca_der is not None:
        service, reason = _seen_from_inside(config.attestation.service, config.net)
        words += [f"cvm.service={service}", f"cvm.ca={_base64(ca_der)}"]
        choices.append(("service", service, reason))
        words += [f"cvm.pin={pin}" for pin in config.attestation.pins]
    words += [f"cvm.disk={disk.name}:{disk.resource}" for disk in config.disks if disk.resource is not None]
    words += [
        f"cvm.root={disk.name}:{disk.verity.blocks}:{disk.verity.root_hash}"
        for disk in config.disks if disk.verity is not None
    ]  # fmt: skip
    words += _network(config.net, words, choices)
    if config.guest.run is not None:
        words.append(f"cvm.run={config.guest.run}")
    if config.operators:
        words.append(f"cvm.exec={','.join(config.operators)}")
        choices.append(("commands", f"{len(config.operators)} operator key(s)", "may run commands once it is attested"))
    if config.init_data is not None:
        words.append("cvm.initdata=required")
    if config.platform in (Platform.EMULATED_SNP, Platform.EMULATED_TDX):
        words.append("cvm.evidence=emulated")
    words += [
        f"cvm.secret={item.name}:{item.resource}:{item.uid}:{item.gid}:{item.mode:04o}" for item in config.guest.secrets
    ]
    if config.guest.api:
        words.append(f"cvm.api={','.join(config.guest.api)}")
    if config.guest.reattest:
        words.append(f"cvm.reattest={config.guest.reattest}")
    if config.guest.poweroff:
        words.append("cvm.poweroff=1")
    return words


def _network(net: Net | None, words: list[str], choices: list[tuple[str, str, str]]) -> list[str]:
    """``cvm.net``: none for a guest on a wire whose address the owner did not write; it asks DHCP, if anybody."""
    if net is None or (net.wire and net.guest is None):
        return []
    if net.guest is None:
        return [f"cvm.net={GUEST_ADDRESS},{GATEWAY}{_name_server(words, choices)}"]
    return ["cvm.net=" + ",".join(item for item in net.guest if item is not None)]


def _seen_from_inside(url: str, net: Net | None) -> tuple[str, str]:
    """The URL as the guest must write it, and why."""
    scheme, _, rest = url.partition("://")
    host, colon, port = rest.rpartition(":") if not rest.endswith("]") and ":" in rest else (rest, "", "")
    if host.lower() in _LOOPBACK and net is not None and net.wire:
        raise PlanRefused(
            f"attestation.service: {url}: a guest on a wire cannot reach this host's loopback",
            code="attestation.loopback",
            hint='let the service listen on an address of that network, or use kind = "user"',
        )
    if host.lower() in _LOOPBACK:
        return f"{scheme}://{GATEWAY}{colon}{port}", f"{host} is this host's loopback; the guest sees it as {GATEWAY}"
    return url, "from [attestation]"


def _name_server(words: list[str], choices: list[tuple[str, str, str]]) -> str:
    """A third address for ``cvm.net`` where the guest must look the service up."""
    services = [word.partition("://")[2] for word in words if word.startswith("cvm.service=")]
    import re  # only for a VM with a service

    if not any(re.match(r"[0-9.]+(:|/|$)|\[", service) is None for service in services):
        return ""
    choices.append(("name server", NAME_SERVER, "the service has a name; TLS decides whether the answer was true"))
    return f",{NAME_SERVER}"


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode("ascii")

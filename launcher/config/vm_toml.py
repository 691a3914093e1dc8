"""``web-1.toml`` -> :class:`launcher.core.vm.VmConfig`. Strict: unknown keys, wrong types and contradictions are
problems, and all of them are reported at once, each with its path.

Schema 1. Paths stay as written; whoever opens them resolves them against the file's folder.
"""

from __future__ import annotations

from launcher.config import parts, rare_tables
from launcher.config.sizes import parse_size
from launcher.core.vm import Boot, Guest, SnpSettings, VmConfig
from launcher.errors import VmConfigInvalid
from policy.table import Problems, Table
from policy.toml import TomlInvalid, strict_toml
from policy.vocab import Platform

MIN_MEMORY, MAX_MEMORY = 128 << 20, 16 << 40
NAME = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"
PLATFORMS = tuple(item.value for item in Platform if item not in (Platform.SGX, Platform.EMULATED_SGX))
_MEASURED = (Platform.SEV_SNP, Platform.EMULATED_SNP)


def parse_vm(data: bytes, what: str) -> VmConfig:
    """Decode a VM file; ``what`` (its name) begins every problem. Raises :class:`VmConfigInvalid`."""
    problems = Problems()
    root = Table(_toml(data, what), problems)
    config = decode(root)
    if not problems.found:
        _cross_checks(config, problems)
        rare_tables.check(config, problems)
    if problems.found:
        raise VmConfigInvalid(what, tuple(problems.found))
    return config


def is_name(text: str) -> bool:
    """As :data:`NAME` has it; every launch asks, and regular expressions are not loaded yet."""
    return 0 < len(text) <= 63 and not text.strip(_NAME_LETTERS) and "-" not in (text[0], text[-1])


def _toml(data: bytes, what: str) -> dict[str, object]:
    try:
        return strict_toml(data)
    except TomlInvalid as exc:
        raise VmConfigInvalid(what, (f"$: {exc.message}",)) from None


def decode(root: Table) -> VmConfig:
    """Ask the root table for everything; problems are in the table. `launcher.config.schema` watches what is asked."""
    schema = root.value("schema", int, want="1")
    if schema not in (None, 1):
        root.problem("schema", f"got {schema}, want 1")
    name = root.value("name", str) or ""
    if name and not is_name(name):
        root.problem("name", f"got {name[:80]!r}, want at most 63 of a-z 0-9 and inner '-'")
    platform = Platform(root.choice("platform", PLATFORMS) or "none")
    memory = _memory(root)
    cpu = parts.cpu(root.table("cpu", required=False), platform)
    config = VmConfig(
        name=name,
        platform=platform,
        memory=memory,
        light=root.value("light", bool, default=False) or False,
        accel=root.choice("accel", ("auto", "kvm", "tcg"), "auto") or "auto",
        cpu=cpu,
        boot=parts.boot(root.table("boot", required=False)) or Boot(),
        disks=rare_tables.disks(root.tables("disk")),
        throttles=rare_tables.throttles(root.tables("throttle")),
        net=rare_tables.net(root, root.tables("net"), name),
        attestation=parts.attestation(root.table("attestation", required=False)),
        guest=parts.guest(root.table("guest", required=False)) or Guest(),
        snp=parts.snp(root.table("snp", required=False)) or SnpSettings(),
        tdx=rare_tables.tdx(root.table("tdx", required=False)),
        init_data=rare_tables.init_data(root.table("init_data", required=False), name),
        emulator_state=parts.emulator(root.table("emulator", required=False)),
        isolation=rare_tables.isolation(root.table("isolation", required=False)),
        limits=rare_tables.limits(root.table("limits", required=False), memory),
        lifecycle=rare_tables.lifecycle(root.table("lifecycle", required=False)),
        operators=rare_tables.operators(root.table("exec", required=False)),
        vsock=rare_tables.vsock(root.table("vsock", required=False)),
        placement=rare_tables.placement(root.table("placement", required=False), cpu.vcpus),
        ram=rare_tables.ram(root.table("ram", required=False), memory),
        numa=rare_tables.numa(root.tables("numa")),
        devices=rare_tables.devices(root.table("devices", required=False)),
        passthrough=rare_tables.passthrough(root.tables("passthrough")),
        shares=rare_tables.shares(root.tables("share")),
    )
    root.finish()
    return config


def _memory(root: Table) -> int:
    text = root.value("memory", str, want='a size such as "4GiB"')
    if text is None:
        return 0
    size = parse_size(text)
    if size is None:
        root.problem("memory", f'got {text[:40]!r}, want a whole number of MiB, GiB or TiB such as "4GiB"')
        return 0
    if size % (1 << 20) or not MIN_MEMORY <= size <= MAX_MEMORY:
        root.problem("memory", f"got {text}, want whole MiB, 128MiB to 16TiB")
    return size


def _cross_checks(config: VmConfig, problems: Problems) -> None:
    """What no single key can tell: only asked when every key by itself is right."""
    boot = config.boot
    if config.platform in _MEASURED and boot.kernel is None:
        problems.add("$.boot.kernel", f"missing: platform {config.platform.value} boots a measured kernel")
    if boot.kernel is None and (boot.initrd is not None or boot.cmdline):
        problems.add("$.boot.kernel", "missing: an initrd or a command line needs a kernel")
    if boot.kernel is None and not config.disks:
        problems.add("$.boot", "nothing to boot: want a kernel or a [[disk]]")
    if config.light:
        _check_light(config, problems)
    _attestation_checks(config, problems)
    roots = [number for number, disk in enumerate(config.disks) if disk.verity is not None]
    if config.guest.run is not None and not roots and not any(disk.resource for disk in config.disks):
        problems.add("$.guest.run", "names a program on the root or the first encrypted disk, but there is neither")
    if len(roots) > 1:
        problems.add(f"$.disk[{roots[1]}].verity", "a VM has one root file system")
    if roots and boot.kernel is None:
        problems.add(f"$.disk[{roots[0]}].verity", "needs $.boot.kernel: the root hash is on its command line")
    _check_guest(config, problems)


def _check_guest(config: VmConfig, problems: Problems) -> None:
    if (config.guest.api or config.guest.reattest or config.guest.secrets) and config.attestation is None:
        problems.add("$.guest", "api, reattest and secret need an [attestation] table: nobody to ask")
    if config.guest.poweroff and config.platform is Platform.NONE and config.boot.kernel is None:
        problems.add("$.guest.poweroff", "is passed on the kernel command line, but there is no kernel")


def _check_light(config: VmConfig, problems: Problems) -> None:
    if config.platform is not Platform.NONE:
        problems.add(
            "$.light",
            f"platform {config.platform.value} measures its firmware and the very kernel file; the light profile has "
            "neither, so only an ordinary VM can have it",
        )
    if config.boot.kernel is None:
        problems.add("$.boot.kernel", "missing: light = true starts a kernel without a boot loader")
    if config.boot.firmware != "auto":
        problems.add("$.boot.firmware", 'light = true brings its own (qboot), want "auto"')


def _attestation_checks(config: VmConfig, problems: Problems) -> None:
    """Who needs a service, and what a service needs."""
    attestation, net = config.attestation, config.net
    if attestation is not None and config.platform is Platform.NONE:
        problems.add("$.attestation", "platform none has no evidence to attest with")
    if attestation is not None and net is None:
        problems.add("$.attestation.service", "needs a [[net]]: the guest cannot reach the service")
    if attestation is not None and net is not None and net.wire and net.guest is None:
        problems.add("$.net[0].address", "missing: a guest that attests reads its address in the command line")
    if config.operators and attestation is None:
        problems.add("$.exec", "needs an [attestation] table: commands run only in a guest that a service accepted")
    speaking = sorted(set(config.guest.api) & {"evidence", "token"})
    if config.operators and speaking:
        why = "a program that gets an attestation of its own from the interface could answer operators as this guest"
        problems.add("$.exec", f"excludes {' and '.join(speaking)} in $.guest.api: {why}")

"""The table ``[init_data]`` of a VM file: which text names this VM to the key service."""

from __future__ import annotations

from launcher.config.paths import optional_path
from launcher.core.vm import InitDataSource, VmConfig
from policy.errors import MalformedInput
from policy.initdata import MAX_RESOURCES, is_name
from policy.table import Problems, Table
from policy.vocab import Platform, ResourcePath

_MEMBERS = ("vm", "service", "resources")
_SNP = (Platform.SEV_SNP, Platform.EMULATED_SNP)


def init_data(table: Table, vm: str) -> InitDataSource:
    """``[init_data]``; ``vm`` is what the text calls the VM unless the table says otherwise."""
    file = optional_path(table, "file")
    written = [name for name in _MEMBERS if table.has(name)]
    name = table.value("vm", str, vm) or ""
    service = table.value("service", str) if "service" in written else None
    listed = table.strings("resources") if "resources" in written else None
    table.finish()
    if file is not None:
        for key in written:
            table.problem(key, "stands in the file; write either file or what cvm shall put into one")
        return InitDataSource(file)
    for key, value in (("vm", name), ("service", service)):
        if value is not None and not is_name(value):
            table.problem(key, f"got {value[:80]!r}, want 1 to 128 letters, digits and _ . @ - or spaces")
    return InitDataSource(None, name, service, None if listed is None else _resources(table, listed))


def _resources(table: Table, listed: tuple[str, ...]) -> tuple[str, ...]:
    if len(listed) > MAX_RESOURCES:
        table.problem("resources", f"got {len(listed)}, want at most {MAX_RESOURCES}")
    try:
        return tuple(str(ResourcePath.parse(item)) for item in listed)
    except MalformedInput as exc:
        table.problem("resources", exc.message)
        return ()


def check_init_data(config: VmConfig, init_data: InitDataSource, problems: Problems) -> None:
    """What the rest of the file must say with an ``[init_data]`` table."""
    if config.platform is Platform.NONE:
        problems.add("$.init_data", "nothing binds an ordinary VM to it; want a platform that measures")
    if config.attestation is None:
        problems.add("$.init_data", "needs an [attestation] table: nobody to show it to")
    listed = init_data.resources
    if listed is not None:
        asked = (*(disk.resource for disk in config.disks), *(item.resource for item in config.guest.secrets))
        for path in dict.fromkeys(path for path in asked if path is not None and path not in listed):
            problems.add("$.init_data.resources", f"lacks {path}, which this file asks for: it would be refused")
    where, value = ("snp.host_data", config.snp.host_data)
    if config.platform not in _SNP:
        where, value = ("tdx.mrconfigid", config.tdx.mrconfigid)
    if any(value):
        problems.add(f"$.{where}", "is where the digest of [init_data] goes; write one of the two")

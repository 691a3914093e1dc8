"""A VM's placement, resolved: what the file says, or what :func:`launcher.core.topology.choose` found for ``auto``."""

from __future__ import annotations

from launcher.core.caution import Caution
from launcher.core.hardware import Placement
from launcher.core.limits import cpu_list
from launcher.core.topology import Chosen, HostTopology, Wish, as_list, choose
from launcher.core.vm import VmConfig
from policy.vocab import Platform


def resolve(
    config: VmConfig, host: HostTopology, taken: frozenset[int]
) -> tuple[Placement, tuple[tuple[str, str, str], ...], tuple[Caution, ...]]:
    """(placement, decisions, warnings). ``taken``: processors other VMs' vCPUs are pinned to."""
    placement = config.placement
    warnings: list[Caution] = []
    why = "the VM file says so"
    if placement.auto:
        wish = Wish(config.cpu.vcpus, config.cpu.threads, config.memory, placement.smt_isolation)
        found = choose(host, wish, taken)
        if isinstance(found, Chosen):
            placement, why = _placed(placement, found), found.why
        else:
            warnings.append(Caution("placement.auto", f"placement.auto: {found}"))
    warnings += _warnings(config, placement, host, taken)
    return placement, tuple(_decisions(placement, host, why)), tuple(warnings)


def _placed(placement: Placement, found: Chosen) -> Placement:
    others = as_list(found.others)
    return placement._replace(
        vcpus=tuple(str(number) for number in found.vcpus),
        io=placement.io or others,
        emulator=placement.emulator or others,
        mems=str(found.node),
    )


def _decisions(placement: Placement, host: HostTopology, why: str) -> list[tuple[str, str, str]]:
    rows = []
    if placement.vcpus:
        rows.append(("vCPUs on", " ".join(placement.vcpus), why))
    rows += [
        (what, cpus, "the rest of QEMU does not disturb the vCPUs")
        for what, cpus in (("I/O threads on", placement.io), ("QEMU on", placement.emulator))
        if cpus is not None
    ]
    if placement.mems is not None:
        rows.append(("memory from", f"node {placement.mems}", "a policy of the process: private memory follows it too"))
    if placement.l3_ways:
        rows.append(("cache", f"{placement.l3_ways} ways of every L3", "it cannot push others out of the rest"))
    if placement.smt_isolation:
        value = "core scheduling" if host.smt else "nothing to do"
        rows.append(
            ("SMT isolation", value, "no other process beside it on a core" if host.smt else "no SMT on this host")
        )
    return rows


def _warnings(config: VmConfig, placement: Placement, host: HostTopology, taken: frozenset[int]) -> list[Caution]:
    known = {cpu.number: cpu.node for cpu in host.cpus}
    lists = [*placement.vcpus, *(text for text in (placement.io, placement.emulator) if text)]
    wanted = {number for text in lists for number in cpu_list(text)}
    vcpus = {number for text in placement.vcpus for number in cpu_list(text)}
    found: list[tuple[str, str]] = []
    if wanted - known.keys():
        found.append(("processors", f"this launcher may not use processors {as_list(wanted - known.keys())}"))
    nodes = {known[number] for number in vcpus & known.keys()}
    if len(nodes) > 1 and not config.numa:
        why = f"vCPUs are on nodes {as_list(nodes)}, but the guest sees one: it cannot keep them near memory"
        found.append(("nodes", why))
    if placement.mems is not None and nodes and not nodes & cpu_list(placement.mems):
        found.append(("far-memory", f"vCPUs are on node {as_list(nodes)}, memory comes from node {placement.mems}"))
    if vcpus & taken:
        found.append(("taken", f"processors {as_list(vcpus & taken)} have another VM's vCPUs"))
    if config.platform is not Platform.NONE and len(host.nodes) > 1 and placement.mems is None:
        found.append(("mems", "private pages cannot be moved to another node later: choose placement.mems"))
    return [Caution(f"placement.{name}", f"placement: {text}") for name, text in found]

"""Made-up machines for the doctor: one with everything, one with every known trouble, one with nothing."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

from launcher.core.capability import Finding
from launcher.core.doctor_checks import deep_findings
from launcher.io.doctor_probe import parse_status, probe_deep

NAMES = ("KVM_AMD_SEV", "INTEL_TDX_HOST", "KVM_GUEST_MEMFD", "IOMMUFD", "VFIO_PCI", "SECURITY_LANDLOCK", "CGROUP_MISC")


def _write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _judged(root: Path, release: str = "6.18.1", qemu: tuple[int, ...] | None = (11, 1)) -> dict[str, Finding]:
    return {item.id: item for item in deep_findings(probe_deep(root, release), qemu)}


def test_a_machine_with_everything_has_no_warning(tmp_path: Path) -> None:
    config = "".join(f"CONFIG_{name}=y\n" for name in NAMES).encode()
    _write(tmp_path, {
        "proc/config.gz": gzip.compress(config),
        "proc/cmdline": "quiet",
        "proc/swaps": "Filename Type Size\n",
        "dev/kmsg": "6,1,2,-;SEV-SNP API:1.55 build:30\n",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids misc",
        "sys/fs/cgroup/misc.capacity": "sev_es 99\ntdx 31\n",
        "sys/fs/cgroup/misc.current": "sev_es 3\ntdx 0\n",
        "sys/kernel/mm/ksm/run": "0\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "sys/kernel/iommu_groups/0/type": "DMA-FQ\n",
        **{f"dev/{name}": "" for name in ("vhost-vsock", "iommu", "net/tun", "sgx_enclave", "sgx_provision")},
        **{f"usr/bin/{name}": "" for name in ("ip", "tc", "passt")},
    })  # fmt: skip
    for name in ("ip", "tc", "passt"):
        (tmp_path / "usr/bin" / name).chmod(0o755)
    found = _judged(tmp_path)
    assert {name for name, item in found.items() if item.state == "warn"} == {"quotes.qgs"}
    assert found["slots.sev_es"].seen == "misc.capacity sev_es 99, used 3"
    assert "transparent madvise" in found["hugepages"].seen


def test_every_known_trouble_is_named_with_its_remedy(tmp_path: Path) -> None:
    _write(tmp_path, {
        "boot/config-5.10.0": "# CONFIG_KVM_AMD_SEV is not set\n",
        "proc/cmdline": "quiet iommu=pt",
        "proc/swaps": "Filename Type Size\n/dev/sda2 partition 9\n",
        "dev/kmsg": "3,1,2,-;SEV-SNP: Memory for the RMP table has not been reserved by BIOS\n"
        "3,2,2,-;virt/tdx: initialization failed: Hibernation support is enabled\n"
        "3,3,3,-;x \x1b[31m RMP configuration not valid\n",
        "sys/fs/cgroup/cgroup.controllers": "cpu memory",
        "sys/fs/cgroup/misc.capacity": "sev_es 2\n",
        "sys/fs/cgroup/misc.current": "sev_es 2\n",
        "sys/kernel/mm/ksm/run": "1\n",
        "proc/sys/kernel/numa_balancing": "1\n",
        "sys/module/kvm_amd/parameters/npt": "0\n",
        "sys/module/kvm_intel/parameters/ept": "N\n",
        "sys/kernel/iommu_groups/0/type": "identity\n",
    })  # fmt: skip
    found = _judged(tmp_path, "5.10.0", (9, 1, 2))
    warned = {name for name, item in found.items() if item.state == "warn"}
    assert {
        "kernel.kvm_amd_sev", "log.rmp.reserved", "log.rmp.valid", "log.tdx.hibernation", "slots.sev_es", "ksm", "swap",
        "cgroup.controllers", "iommu", "pair.kernel-snp", "pair.kernel-tdx", "pair.qemu-tdx", "pair.qemu-vfio",
        "numa.balancing", "kvm.npt", "kvm.ept",
    } <= warned  # fmt: skip
    assert all(found[name].fix and found[name].why for name in warned)
    assert "\x1b" not in found["log.rmp.valid"].seen


def test_a_machine_with_nothing_is_judged_all_the_same(tmp_path: Path) -> None:
    found = _judged(tmp_path, "unknown", None)
    assert found["kernel.config"].state == found["kernel.log"].state == found["slots.cpuid"].state == "skip"
    assert found["device.iommu"].blocks == ("vfio",) and found["quotes.qgs"].blocks == ("quotes",)


def test_no_finding_decides_that_a_platform_cannot_run(tmp_path: Path) -> None:
    assert all(item.state != "missing" for item in _judged(tmp_path).values())


def test_the_firmware_status_is_read_as_the_header_lays_it_out() -> None:
    status = parse_status(struct.pack("<BBBBIIIQQ", 1, 55, 1, 1, 30, 0, 4, 0xD1, 0xD0))
    assert (status.api, status.rmp, status.guests) == ((1, 55), True, 4)
    facts = probe_deep(Path("/nonexistent"), "6.18")._replace(snp=status)
    found = {item.id: item for item in deep_findings(facts, None)}
    assert found["snp.firmware"].state == "ok" and found["snp.tcb"].state == "warn"
    old = {item.id: item for item in deep_findings(facts._replace(snp=status._replace(api=(1, 50))), None)}
    assert old["snp.firmware"].state == "warn"


def test_damaged_files_are_no_facts(tmp_path: Path) -> None:
    _write(tmp_path, {"proc/config.gz": b"\x1f\x8b\x08junk", "sys/fs/cgroup/misc.capacity": b"\xff\xfe sev -1\n"})
    facts = probe_deep(tmp_path, "6.18")
    assert facts.config is None and facts.misc == {}


def test_this_machine_is_judged() -> None:
    assert len(deep_findings(probe_deep(), None)) > 10

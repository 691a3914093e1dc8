"""VM files, host facts and firmware facts for tests of the launcher."""

from __future__ import annotations

from launcher.config.vm_toml import parse_vm
from launcher.core.facts import FirmwareFacts, HostFacts, KvmFacts, QemuFacts
from launcher.core.plan import Surroundings
from launcher.core.vm import VmConfig
from launcher.io.qemu_file import SHIPPED, shipped
from tools.qemu_features import documented

WEB_1 = """
schema = 1
name = "web-1"
platform = "{platform}"
memory = "4GiB"

[cpu]
count = 4
model = "EPYC-v4"

[boot]
firmware = "auto"
kernel = "/images/web/vmlinuz"
initrd = "/images/web/initrd.zst"
cmdline = "console=ttyS0 root=/dev/mapper/root"

[[disk]]
path = "/disks/web-1.img"
encrypted = {{ resource = "default/web-1/root", name = "root" }}

[[net]]
kind = "user"
forward = ["tcp:127.0.0.1:2222-:22"]

[attestation]
service = "https://kbs.example"
ca = "kbs-ca.pem"
"""

PLAIN = """
schema = 1
name = "plain"
platform = "none"
memory = "512MiB"
[boot]
kernel = "/images/vmlinuz"
"""

CA_DER = b"\x30\x82\x01\x00" + bytes(256)


def web_1(platform: str = "sev-snp") -> VmConfig:
    """The example of the operator's guide."""
    text = WEB_1.format(platform=platform)
    return parse_vm((text.replace("EPYC-v4", "host") if platform == "tdx" else text).encode(), "web-1.toml")


def host(*, snp: bool = False, kvm: bool = True, **changes: object) -> HostFacts:
    """A machine; with ``snp`` an EPYC that has everything."""
    facts = HostFacts(
        kvm=KvmFacts(present=kvm, problem="" if kvm else "no /dev/kvm", vm_types=0x11 if snp else 0x1 if kvm else None),
        vendor="AuthenticAMD",
        flags=frozenset({"svm", "sev_snp"} if snp else {"svm"}),
        cpus=8,
        memory_total=64 << 30,
        memory_available=60 << 30,
        kernel="6.12.0",
        sev_snp="Y" if snp else None,
        tdx=None,
        c_bit=51 if snp else None,
        sev_device="" if snp else "no /dev/sev",
        cgroup_v2=True,
    )
    return facts._replace(**changes)


def qemu(*version: int) -> QemuFacts:
    """A toolchain."""
    wanted = version or (11, 1, 3)
    series = f"{wanted[0]}.{wanted[1]}"
    can = shipped(series) if series in SHIPPED else documented(wanted[:2])
    return QemuFacts(("qemu-system-x86_64",), (), wanted, "system", can)


AMDSEV = FirmwareFacts("/fw/OVMF.amdsev.fd", "ab" * 32, 0x810C00, measures_kernel=True, origin="auto: beside this QEMU")

GENERIC = FirmwareFacts("/fw/OVMF.fd", "cd" * 32, None, measures_kernel=False, origin="auto", starts_td=True)


def around(**changes: object) -> Surroundings:
    """Surroundings of a plan: an SNP host with QEMU 11.1.3 and OVMF.amdsev.fd."""
    usual = Surroundings(host(snp=True), qemu(), AMDSEV, CA_DER, "/state/.emulated-chip")
    return usual._replace(**changes)

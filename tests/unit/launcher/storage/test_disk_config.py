"""``[[disk]]`` and ``[[throttle]]`` of a VM file: what is taken, and one broken thing per rule."""

from __future__ import annotations

import pytest

from launcher.config.disk_sources import endpoint
from launcher.config.vm_toml import parse_vm
from launcher.core.cmdline import compose
from launcher.core.storage import Endpoint, IscsiSource, Limit, NbdSource, NfsSource, RbdSource, Throttle
from launcher.core.vm import Verity, VmConfig
from launcher.errors import VmConfigInvalid
from launcher.service.vm_file import resolve
from tests.fakes.vm_files import PLAIN


def vm(text: str) -> VmConfig:
    return parse_vm(f"{PLAIN}\n{text}".encode(), "vm.toml")


def problems(text: str) -> list[str]:
    with pytest.raises(VmConfigInvalid) as found:
        vm(text)
    return list(found.value.problems)


def test_a_disk_of_every_kind_of_source_is_taken_with_its_words() -> None:
    config = vm("""
[[disk]]
path = "a.img"
[[disk]]
[disk.nbd]
server = "unix:/run/nbd.sock"
export = "web"
[[disk]]
[disk.rbd]
pool = "vms"
image = "web"
conf = "ceph.conf"
[[disk]]
[disk.iscsi]
portal = "[::1]:3260"
target = "iqn.2026-01.example:web"
lun = 2
user = "web"
password_file = "chap"
[[disk]]
[disk.nfs]
host = "files.example"
file = "/export/web.img"
uid = 1000
""")
    found = [disk.network for disk in config.disks]
    assert found == [
        None,
        NbdSource(Endpoint(path="/run/nbd.sock"), "web"),
        RbdSource("vms", "web", conf="ceph.conf"),
        IscsiSource(Endpoint(host="::1", port=3260), "iqn.2026-01.example:web", 2, None, "web", "chap"),
        NfsSource("files.example", "/export/web.img", 1000),
    ]
    placed = resolve(config, "/vms").disks
    assert (placed[0].path, placed[2].network) == ("/vms/a.img", found[2]._replace(conf="/vms/ceph.conf"))  # type: ignore[union-attr, call-arg]
    assert isinstance(placed[3].network, IscsiSource) and placed[3].network.password_file == "/vms/chap"
    assert placed[1].path == ""


VERITY = f'[disk.verity]\nblocks = 1000\nroot_hash = "{"00ab" * 16}"\n'
NBD = '[disk.nbd]\nserver = "tcp:h:1"\n'
ISCSI = '[disk.iscsi]\nportal = "h:1"\ntarget = "iqn.2026-01.a:b"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "$.disk[0].path: no source"),
        ('path = "a"\n' + NBD, "$.disk[0].path: and a network source"),
        (NBD + ISCSI, "$.disk[0].iscsi: and nbd: a disk has one source"),
        ('[disk.nbd]\nserver = "udp:h:1"\n', "$.disk[0].nbd.server: got"),
        ('[disk.nbd]\nserver = "tcp:h:65536"\n', "$.disk[0].nbd.server: got"),
        ('[disk.nbd]\nserver = "unix:run/x"\n', "$.disk[0].nbd.server: got"),
        (NBD + 'tls_name = "h"\n', "$.disk[0].nbd.tls_name: needs tls"),
        ('[disk.nbd]\nserver = "unix:/x"\ntls = "d"\n', "$.disk[0].nbd.tls_name: missing"),
        ('[disk.rbd]\npool = "p"\nimage = "i"\n', "$.disk[0].rbd.conf: missing"),
        ('[disk.rbd]\npool = "p/q"\nimage = "i"\nconf = "c"\n', "$.disk[0].rbd.pool: got"),
        ('[disk.rbd]\npool = "p"\nimage = "i"\nconf = "c"\nmonitors = ["h"]\n', "$.disk[0].rbd.monitors: got"),
        (ISCSI + "lun = 16384\n", "$.disk[0].iscsi.lun: got"),
        (ISCSI + 'user = "u"\n', "$.disk[0].iscsi.password_file: user and password_file come together"),
        ('[disk.iscsi]\nportal = "h:1"\ntarget = "web"\n', "$.disk[0].iscsi.target: got"),
        ('[disk.nfs]\nhost = "h"\nfile = "a.img"\n', "$.disk[0].nfs.file: got"),
        ('[disk.nfs]\nhost = "h"\nfile = "/a/../b"\n', "$.disk[0].nfs.file: got"),
        ('path = "a"\nformat = "vmdk"\n', "$.disk[0].format: got"),
        ('path = "a"\nformat = "luks"\n', "$.disk[0].key_file: format"),
        ('path = "a"\nkey_file = "k"\n', "$.disk[0].key_file: format"),
        ('path = "a"\naio = "native"\n', "$.disk[0].aio: native needs cache"),
        ('path = "a"\nbus = "nvme"\niothread = true\n', "$.disk[0].iothread: bus nvme"),
        ('path = "a"\nio_priority = "idle"\n', "$.disk[0].io_priority: needs iothread"),
        ('path = "a"\niothread = true\nio_priority = "best-effort:8"\n', "$.disk[0].io_priority: got"),
        ('path = "a"\nbus = "sata"\nreadonly = true\n', "$.disk[0].readonly: QEMU's SATA"),
        ('path = "a"\nserial = "a b"\n', "$.disk[0].serial: got"),
        ('path = "a"\nvotes = 2\n', "$.disk[0].votes: votes and read_first need copies"),
        ('path = "a"\nvotes = 3\n[[disk.replica]]\npath = "b"\n', "$.disk[0].votes: got 3, want 1 to 2"),
        ('path = "a"\n[[disk.replica]]\npath = "a"\n', "$.disk[0].replica[0].path: 'a' is also $.disk[0]'s"),
        ('path = "a"\nthrottle_group = "x"\n', "$.disk[0].throttle_group: no [[throttle]] is named 'x'"),
        ('path = "a"\n[disk.throttle]\n', "$.disk[0].throttle.iops_total: no limit is set"),
        ('path = "a"\n[disk.throttle]\niops_total = 0\n', "$.disk[0].throttle.iops_total: want operations"),
        ('path = "a"\n[disk.throttle]\nbps_total = "10MB"\n', "$.disk[0].throttle.bps_total: want bytes"),
        ('path = "a"\n[disk.throttle]\niops_total = 9\niops_read = 9\n', "$.disk[0].throttle.iops_total: a total"),
        ('path = "a"\n[disk.throttle]\niops_total = 9\niops_total_burst = 9\n', "$.disk[0].throttle.iops_total: a burst of"),
        ('path = "a"\n[disk.throttle]\niops_total = 9\niops_total_burst_seconds = 9\n', "seconds of a burst"),
        ('path = "a"\n[disk.throttle]\nbps_total = "1MiB"\niops_size = "4KiB"\n', "iops_size: counts requests"),
        ('path = "a"\nthrottle_group = "x"\n[disk.throttle]\niops_total = 9\n', "and limits of its own"),
        (f'path = "a"\n{VERITY.replace("1000", "1")}', "$.disk[0].verity.blocks: got 1, want 2 to"),
        (f'path = "a"\n{VERITY.replace("00ab", "00AB", 1)}', "$.disk[0].verity.root_hash: got '00AB"),
        ('path = "a"\n[disk.verity]\nblocks = 9\n', "$.disk[0].verity.root_hash: missing"),
        (f'path = "a"\nbus = "scsi"\n{VERITY}', "$.disk[0].verity: the guest's agent finds it by"),
        (f'path = "a"\nformat = "qcow2"\n{VERITY}', "$.disk[0].verity: the guest's agent finds it by"),
        (f'path = "a"\nserial = "A.b"\n{VERITY}', "$.disk[0].serial: got 'A.b', want at most 20 of a-z"),
        (f'path = "a"\nencrypted = {{ resource = "a/b/c", name = "r" }}\n{VERITY}', "$.disk[0].verity: and encrypted"),
        (f'path = "a"\n{VERITY}[[disk]]\npath = "b"\nserial = "other"\n{VERITY}', "$.disk[1].verity: a VM has one root"),
    ],
)  # fmt: skip
def test_one_wrong_thing_is_one_problem_that_names_it(text: str, problem: str) -> None:
    found = problems(f"[[disk]]\n{text}")
    assert any(problem in item for item in found), found


def test_a_root_file_system_is_read_only_and_its_hash_is_on_the_measured_command_line() -> None:
    config = vm(f'[guest]\nrun = "/bin/x"\n[[disk]]\npath = "a"\n{VERITY}')
    (disk,) = config.disks
    assert (disk.name, disk.readonly, disk.verity) == ("root", True, Verity(1000, "00ab" * 16))
    assert f" cvm.root=root:1000:{'00ab' * 16} cvm.run=/bin/x" in compose(config, None).text


def test_a_root_file_system_without_a_measured_kernel_is_refused() -> None:
    text = PLAIN.partition("[boot]")[0] + f'[[disk]]\npath = "a"\n{VERITY}'
    with pytest.raises(VmConfigInvalid, match=r"\$\.disk\[0\]\.verity: needs \$\.boot\.kernel"):
        parse_vm(text.encode(), "vm.toml")


def test_an_encrypted_disk_has_no_second_serial() -> None:
    found = problems('[[disk]]\npath = "a"\nserial = "s"\nencrypted = { resource = "a/b/c", name = "root" }')
    assert any("serial is encrypted.name" in item for item in found)


def test_two_groups_of_one_name_are_refused() -> None:
    found = problems("".join('[[throttle]]\nname = "x"\niops_total = 1\n' for _ in range(2)))
    assert found == ["$.throttle[1].name: 'x' is there already, want it once"]


def test_limits_are_read_with_bursts_and_shown_in_words() -> None:
    config = vm("""
[[throttle]]
name = "tenant"
iops_total = 500
bps_read = "1MiB"
bps_read_burst = "2MiB"
bps_read_burst_seconds = 10
iops_size = "16KiB"
[[disk]]
path = "a"
throttle_group = "tenant"
""")
    limits = config.throttles[0].limits
    assert limits.shown == "iops-total 500, bps-read 1048576 (burst 2097152 for 10 s)"
    asked = limits.qapi()
    assert len(asked) == 19
    assert (asked["iops-total"], asked["bps-read-max"], asked["bps-read-max-length"]) == (500, 2 << 20, 10)
    assert (asked["iops-size"], asked["bps-write"]) == (16 << 10, 0)


def test_limits_that_qemu_would_refuse_are_known_here() -> None:
    wrong = Throttle((Limit(10, 10), Limit(), Limit(5), Limit(0, 7), Limit(0, 0, 3), Limit()), 0)
    assert len(wrong.problems()) == 4


def test_most_copies_have_to_agree_unless_said_otherwise() -> None:
    text = '[[disk]]\npath = "a"\n' + "".join(f'[[disk.replica]]\npath = "r{n}"\n' for n in range(2))
    replicas = vm(text).disks[0].replicas
    assert replicas is not None and (len(replicas.copies), replicas.votes) == (2, 2)
    one = vm('[[disk]]\npath = "a"\n[[disk.replica]]\npath = "b"\n').disks[0].replicas
    assert one is not None and one.votes == 2


@pytest.mark.parametrize("text", ["tcp:h", "tcp::1", "tcp:h:0", "tcp:h:1x", "unix:", "unix:/a\0", "h:1", "tcp:-h:1"])
def test_what_is_no_endpoint_is_none(text: str) -> None:
    assert endpoint(text) is None

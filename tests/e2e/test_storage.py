"""Disks of every kind under the real QEMU in its jail, against real servers: NBD with and without TLS, iSCSI, copies.

RBD against a real Ceph is in ``test_ceph.py``, NFS in ``test_nfs.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from launcher.errors import PlanRefused, StorageFailed
from launcher.io.ioprio import get_priority, prioritise, priority_number, threads_by_inner_number
from launcher.io.qemu import Qemu
from launcher.service import live
from tests.fakes.disk_world import prepared, qemu_io, real_qemu, running_disks
from tests.fakes.storage_servers import iscsi_server, nbd_server
from tests.fakes.tls_folder import make_tls
from tests.until import until

pytestmark = pytest.mark.qemu
SIZE = 4 << 20
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="another network needs root here")


def image(path: Path, head: bytes = b"") -> Path:
    path.write_bytes(head)
    os.truncate(path, SIZE)
    return path


def written(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(4096)
        return file.read(8)


def test_every_bus_cache_mode_and_way_of_io_starts_and_carries_bytes(tmp_path: Path) -> None:
    real_qemu("qemu-img")
    for name in "abcdef":
        image(tmp_path / f"{name}.img")
    text = """
[[disk]]
path = "a.img"
cache = "none"
aio = "native"
iothread = true
[[disk]]
path = "b.img"
cache = "directsync"
aio = "io_uring"
bus = "scsi"
iothread = true
[[disk]]
path = "c.img"
cache = "writethrough"
bus = "nvme"
serial = "C-1"
[[disk]]
path = "d.img"
cache = "unsafe"
bus = "sata"
[[disk]]
path = "e.img"
bus = "ide"
discard = false
[[disk]]
path = "f.img"
readonly = true
"""
    with running_disks(text, tmp_path) as (qemu, _vm, said):
        for number in range(5):
            qemu_io(qemu, f"disk{number}", "write -P 0xab 4096 512")
            qemu_io(qemu, f"disk{number}", "flush")
        qemu_io(qemu, "disk5", "write -P 0xab 4096 512")
        assert not any("NOT enforced" in line for line in said) or os.geteuid() != 0
    assert [written(tmp_path / f"{name}.img") == b"\xab" * 8 for name in "abcdef"] == [True] * 5 + [False]


def test_a_network_disk_is_reached_through_the_daemon_and_qemu_has_no_network(tmp_path: Path) -> None:
    facts = real_qemu("qemu-storage-daemon")
    store = image(tmp_path / "web.img")
    with nbd_server(facts, store, "web") as port:
        text = f'[[disk]]\n[disk.nbd]\nserver = "tcp:127.0.0.1:{port}"\nexport = "web"\n'
        with running_disks(text, tmp_path) as (qemu, vm, said):
            qemu_io(qemu, "disk0", "write -P 0xcd 4096 512")
            qemu_io(qemu, "disk0", "flush")
            if os.geteuid() == 0:
                assert os.readlink(f"/proc/{qemu.child.pid}/ns/net") != os.readlink("/proc/self/ns/net")
                assert any("the storage daemon: mount namespace" in line for line in said)
                assert os.stat(f"{vm.path}/storage/nbd.sock").st_uid == os.stat(f"/proc/{qemu.child.pid}").st_uid
    assert written(store) == b"\xcd" * 8


def test_nbd_with_tls_takes_the_right_authority_and_no_other(tmp_path: Path) -> None:
    facts = real_qemu("qemu-storage-daemon")
    store = image(tmp_path / "web.img")
    server, client = make_tls(tmp_path / "tls")
    _, stranger = make_tls(tmp_path / "other")
    text = '[[disk]]\n[disk.nbd]\nserver = "tcp:127.0.0.1:{port}"\nexport = "web"\ntls = "{tls}"\n'
    with nbd_server(facts, store, "web", tls=server) as port:
        with running_disks(text.format(port=port, tls=client), tmp_path) as (qemu, _vm, _said):
            qemu_io(qemu, "disk0", "write -P 0xee 4096 512")
            qemu_io(qemu, "disk0", "flush")
        with (
            pytest.raises(StorageFailed, match=r"(?i)certificate"),
            running_disks(text.format(port=port, tls=stranger), tmp_path),
        ):
            pass
    assert written(store) == b"\xee" * 8


@pytest.mark.skipif(shutil.which("tgtd", path="/usr/sbin:/usr/bin") is None, reason="no tgtd")
@root_only
def test_an_iscsi_disk_with_chap_and_a_wrong_password(tmp_path: Path) -> None:
    real_qemu("qemu-storage-daemon", "iscsi")
    store = image(tmp_path / "lun.img")
    (tmp_path / "chap").write_text("secretsecret12")
    (tmp_path / "wrong").write_text("secretsecret99")
    with iscsi_server(store, "iqn.2026-01.test:web", "web", "secretsecret12") as port:
        text = (
            f'[[disk]]\n[disk.iscsi]\nportal = "127.0.0.1:{port}"\ntarget = "iqn.2026-01.test:web"\nlun = 1\n'
            'user = "web"\npassword_file = "{}"\n'
        )
        with running_disks(text.format("chap"), tmp_path) as (qemu, _vm, _said):
            qemu_io(qemu, "disk0", "write -P 0x5a 4096 512")
            qemu_io(qemu, "disk0", "flush")
        with pytest.raises(StorageFailed, match="iSCSI"), running_disks(text.format("wrong"), tmp_path):
            pass
    assert written(store) == b"\x5a" * 8


def _reported(qemu: Qemu, name: str) -> bool:
    """Whether QEMU has sent that event since it was asked last."""
    return name in {event.name for event in qemu.qmp.take_events()}


def test_copies_are_written_everywhere_and_a_false_one_is_outvoted(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path / f"{name}.img", b"\x11" * 512)
    image(tmp_path / "c.img", b"\x22" * 512)
    text = '[[disk]]\npath = "a.img"\n[[disk.replica]]\npath = "b.img"\n[[disk.replica]]\npath = "c.img"\n'
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        qemu_io(qemu, "disk0", "read -P 0x11 0 512")
        until(lambda: _reported(qemu, "QUORUM_REPORT_BAD"), "the false copy is told")
        qemu_io(qemu, "disk0", "write -P 0x33 4096 512")
        qemu_io(qemu, "disk0", "flush")
    assert [written(tmp_path / f"{name}.img") for name in "abc"] == [b"\x33" * 8] * 3


def test_a_host_encrypted_disk_of_an_ordinary_vm_is_opened_with_its_key(tmp_path: Path) -> None:
    facts = real_qemu("qemu-img")
    (tmp_path / "key").write_text("a passphrase")
    subprocess.run(
        [*facts.program("qemu-img"), "create", "-q", "-f", "luks", "--object", f"secret,id=s,file={tmp_path}/key",
         "-o", "key-secret=s,iter-time=10", str(tmp_path / "d.luks"), "1M"], check=True, env=dict(facts.env),
    )  # fmt: skip
    text = '[[disk]]\npath = "d.luks"\nformat = "luks"\nkey_file = "key"\n'
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        qemu_io(qemu, "disk0", "write -P 0x77 4096 512")
    assert b"\x77" * 64 not in (tmp_path / "d.luks").read_bytes()


KEY = "{tls}/client-key.pem"


@pytest.mark.parametrize("names", [(), ("-b", KEY, "-F", "raw"), ("-o", f"data_file={KEY},data_file_raw=on")])
def test_an_image_on_a_server_that_names_a_file_of_this_host_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    """The daemon's jail holds the keys of its servers: an image over one of them would show it to the guest."""
    facts = real_qemu("qemu-storage-daemon", "qemu-img")
    server, client = make_tls(tmp_path / "tls")
    key, store = client / "client-key.pem", tmp_path / "web.img"
    before = key.read_bytes()
    words = [word.format(tls=client) for word in names]
    made = [*facts.program("qemu-img"), "create", "-q", "-f", "qcow2", *words, str(store), "64K"]
    subprocess.run(made, env=dict(facts.env), check=True, capture_output=True)
    key.write_bytes(before)
    text = '[[disk]]\nformat = "qcow2"\nreadonly = true\n[disk.nbd]\nserver = "tcp:127.0.0.1:{}"\nexport = "web"\n'
    refused = pytest.raises(PlanRefused, match="names other files chooses what QEMU opens")
    with nbd_server(facts, store, "web", tls=server) as port, refused if names else nullcontext():
        text = f'{text.format(port)}tls = "{client}"\n'
        with running_disks(text, tmp_path) as (qemu, _vm, _said):
            qemu_io(qemu, "disk0", "read 0 512")


def test_a_server_that_is_not_there_is_named_with_qemus_words(tmp_path: Path) -> None:
    real_qemu("qemu-storage-daemon")
    text = '[[disk]]\n[disk.nbd]\nserver = "tcp:127.0.0.1:1"\n'
    with pytest.raises(StorageFailed, match="Connection refused"), running_disks(text, tmp_path):
        pass


def test_a_network_disk_that_is_said_to_be_encrypted_is_looked_at(tmp_path: Path) -> None:
    facts = real_qemu("qemu-storage-daemon")
    store = image(tmp_path / "web.img", b"plain")
    with nbd_server(facts, store, "web") as port:
        text = f'[[disk]]\n[disk.nbd]\nserver = "tcp:127.0.0.1:{port}"\nexport = "web"\n'
        made = prepared(text, tmp_path)
        disk = made.plan.spec.disks[0]
        spec = made.plan.spec._replace(disks=(disk._replace(resource="a/b/c"),))
        from launcher.io.statedir import VmDir
        from launcher.service.storage import network_disks

        vm = VmDir(str(tmp_path / "state"), "disks")
        vm.create()
        broken = made._replace(plan=made.plan._replace(spec=spec))
        with pytest.raises(PlanRefused, match="declared encrypted, but"), network_disks(broken, vm, lambda _: None):
            pass


def test_a_disks_own_thread_gets_its_io_priority_and_qemu_cannot_touch_it(tmp_path: Path) -> None:
    real_qemu()
    image(tmp_path / "a.img")
    text = '[[disk]]\npath = "a.img"\niothread = true\nio_priority = "best-effort:6"\n'
    disks = prepared(text, tmp_path).plan.spec.disks
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        assert prioritise(qemu.qmp, qemu.child.pid, disks) == ["disk disk0: I/O priority best-effort:6"]
        inner = qemu.qmp.execute("query-iothreads")[0]["thread-id"]
        thread = threads_by_inner_number(qemu.child.pid)[inner]
        assert get_priority(thread) == priority_number("best-effort:6")
        assert get_priority(qemu.child.pid) != priority_number("best-effort:6")


def test_limits_of_a_real_qemu_are_shown_changed_and_refused(tmp_path: Path) -> None:
    real_qemu()
    image(tmp_path / "a.img")
    text = '[[disk]]\npath = "a.img"\n[disk.throttle]\niops_total = 500\n'
    made = prepared(text, tmp_path)
    with running_disks(text, tmp_path) as (qemu, _vm, _said):
        answer = live.throttle(made, qemu.qmp, {"object": "limits-disk0", "changes": {"bps-write": 1 << 20}})
        assert answer["said"] == "limits-disk0: iops-total 500, bps-write 1048576"
        live.throttle(made, qemu.qmp, {"object": "limits-disk0", "changes": {}, "off": True})
        assert live.limits_of(qemu.qmp, "limits-disk0").shown == "no limits"

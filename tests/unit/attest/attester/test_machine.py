"""The parts that touch the machine, against folders that look like sysfs and against real processes."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from pathlib import Path

import pytest

from attest.attester import network, ports
from attest.attester.cmdline import NetOrder
from attest.attester.disk import BlockDevice, find_disk, open_disk, open_words, read_header
from attest.attester.errors import DiskFailed, NetworkFailed, PayloadFailed
from attest.attester.payload import MAX_OUTPUT, Payload, command, find_program
from attest.attester.status import MAX_LINE, Status
from policy.secret import SecretBytes
from tests.fakes.guest import Recorder

ORDER = NetOrder("10.0.2.15", 24, "10.0.2.2")


def _sysfs(root: Path, **attributes: str) -> Path:
    for name, text in attributes.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_port_is_found_by_its_name(tmp_path: Path) -> None:
    sys_ports = _sysfs(tmp_path / "sys", vport0p1__name="org.cvm.status\n", vport0p2__name="org.cvm.snp\n")
    found = ports.find_port("org.cvm.snp", sys=sys_ports, dev=tmp_path)
    assert found == tmp_path / "vport0p2"
    assert ports.find_port("org.cvm.other", sys=sys_ports, dev=tmp_path) is None


def test_a_port_that_never_comes_is_none_after_the_wait(tmp_path: Path) -> None:
    slept: list[float] = []
    assert ports.wait_for_port("x", seconds=1, sys=tmp_path, dev=tmp_path, sleep=slept.append) is None
    assert sum(slept) == pytest.approx(1)


def test_a_port_that_nobody_reads_does_not_hold_the_guest() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(TimeoutError, match="nobody reads"):
        ports.write_all(writer, bytes(1 << 20), seconds=0.05)
    os.close(reader)
    os.close(writer)


def test_the_interface_is_configured_with_the_kernels_structures() -> None:
    calls: list[tuple[int, bytes]] = []

    def ioctl(request: int, data: bytes) -> bytes:
        calls.append((request, data))
        return data

    network.configure("eth0", ORDER, ioctl)
    by_request = dict(calls)
    assert [len(data) for request, data in calls if request != network.SIOCADDRT] == [40] * 6
    family, _, address = struct.unpack_from("=HH4s", by_request[network.SIOCSIFADDR], 16)
    assert (family, address) == (socket.AF_INET, bytes([10, 0, 2, 15]))
    assert by_request[network.SIOCSIFNETMASK][20:24] == bytes([255, 255, 255, 0])
    route = by_request[network.SIOCADDRT]
    assert len(route) == 120
    assert route[28:32] == bytes([10, 0, 2, 2])
    assert struct.unpack_from("H", route, 56)[0] == 3


def test_the_kernels_refusal_is_said() -> None:
    def ioctl(request: int, data: bytes) -> bytes:
        raise OSError(1, "Operation not permitted")

    with pytest.raises(NetworkFailed, match=r"eth0 cannot have 10.0.2.15/24: Operation not permitted"):
        network.configure("eth0", ORDER, ioctl)


def test_the_interface_is_the_only_one_with_a_device(tmp_path: Path) -> None:
    _sysfs(tmp_path, lo__x="", eth0__device__x="")
    assert network.the_interface(tmp_path) == "eth0"
    _sysfs(tmp_path, eth1__device__x="")
    with pytest.raises(NetworkFailed, match="2 interfaces"):
        network.the_interface(tmp_path)


def test_an_interface_that_never_comes_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NetworkFailed, match="no network interface"):
        network.wait_for_interface(seconds=1, sys=tmp_path, sleep=lambda seconds: None)


def test_a_disk_is_found_by_its_serial(tmp_path: Path) -> None:
    blocks = _sysfs(tmp_path / "sys", vda__serial="data", vdb__serial="root", vdb__ro="1\n", vda__ro="0\n")
    (tmp_path / "vdb").touch()
    assert find_disk("root", sys=blocks, dev=tmp_path) == BlockDevice(tmp_path / "vdb", True)


def test_two_disks_with_one_serial_and_none_are_failures(tmp_path: Path) -> None:
    blocks = _sysfs(tmp_path / "sys", vda__serial="root", vdb__serial="root")
    with pytest.raises(DiskFailed, match="2 disks"):
        find_disk("root", sys=blocks, dev=tmp_path)
    with pytest.raises(DiskFailed, match="no disk"):
        find_disk("other", sys=blocks, dev=tmp_path, seconds=0.2, sleep=lambda seconds: None)


def test_a_disk_smaller_than_its_header_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4096))
    with pytest.raises(DiskFailed, match="4096 bytes"):
        read_header(tmp_path / "disk")


def test_the_key_is_in_no_argument_and_the_copy_is_the_header() -> None:
    command = open_words(BlockDevice(Path("/dev/vda"), False), Path("/run/cvm/header/root"), "root", 32)
    assert command[command.index("--header") + 1] == "/run/cvm/header/root"
    assert command[command.index("--key-file") + 1] == "-"
    assert "--readonly" not in command
    assert "--readonly" in open_words(BlockDevice(Path("/dev/vda"), True), Path("h"), "root", 32)


@pytest.mark.parametrize("length", [0, 31, 513])
def test_a_key_of_unusual_length_is_refused(length: int) -> None:
    with pytest.raises(DiskFailed, match=f"key of {length} bytes"):
        open_disk(BlockDevice(Path("/dev/vda"), False), Path("h"), "root", SecretBytes(bytes(length)))


def _script(folder: Path, text: str, name: str = "run", mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def test_a_payload_runs_on_its_disk_with_a_bare_environment(tmp_path: Path) -> None:
    told: list[str] = []
    os.environ["CVM_TEST_SECRET"] = "x"
    payload = Payload([str(_script(tmp_path, "pwd; echo $CVM_DISK; env; echo err >&2; exit 3"))], tmp_path, told.append)
    assert payload.wait(10) == 3
    text = "".join(told)
    assert text.startswith(f"{tmp_path}\n{tmp_path}\n")
    assert text.endswith("err\n")
    assert "CVM_TEST_SECRET" not in text


def test_a_payload_that_lasts_is_not_waited_for(tmp_path: Path) -> None:
    told: list[str] = []
    payload = Payload([str(_script(tmp_path, "echo up; exec sleep 60"))], tmp_path, told.append)
    assert payload.wait(0.5) is None
    assert told == ["up\n"]
    payload._process.kill()
    assert payload.wait(10) == -9


def test_a_child_that_keeps_the_output_open_does_not_hold_the_payload(tmp_path: Path) -> None:
    payload = Payload([str(_script(tmp_path, "sleep 3 & echo done"))], tmp_path, lambda text: None)
    begun = time.monotonic()
    assert payload.wait(10) == 0
    assert time.monotonic() - begun < 2


def test_a_payload_that_closes_its_output_is_still_waited_for(tmp_path: Path) -> None:
    payload = Payload([str(_script(tmp_path, "exec >&- 2>&-; sleep 0.3; exit 4"))], tmp_path, lambda text: None)
    assert payload.wait(10) == 4


def test_endless_output_is_cut_and_does_not_block(tmp_path: Path) -> None:
    told: list[str] = []
    payload = Payload([str(_script(tmp_path, "head -c 1000000 /dev/zero | tr '\\0' x"))], tmp_path, told.append)
    assert payload.wait(10) == 0
    assert "".join(told).count("x") == MAX_OUTPUT
    assert "not shown" in told[-1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "No such file"),
        (lambda folder: _script(folder, "", mode=0o644), "no executable file"),
        (lambda folder: (folder / "run").mkdir(), "no executable file"),
        (lambda folder: (folder / "run").symlink_to("/bin/sh"), "not on the disk"),
        (lambda folder: (folder / "run").symlink_to("run"), ""),
    ],
)
def test_a_program_that_is_none_is_refused(tmp_path: Path, make: object, said: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(PayloadFailed, match=f"payload /run: .*{said}"):
        find_program("/run", tmp_path)


def test_a_payload_in_a_root_is_started_there_and_its_links_are_resolved_there(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to("/only/inside")
    assert command("/run", tmp_path, None) == ["/usr/bin/chroot", str(tmp_path), "/run"]


def test_a_payload_that_a_root_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadFailed, match="payload /run: not in the root"):
        command("/run", tmp_path, tmp_path)


def test_an_event_is_one_line_of_ascii_json() -> None:
    recorder = Recorder()
    recorder.status.event("payload-output", text="zwölf\n\x1b[31m")
    (line,) = recorder.lines
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert json.loads(line) == {"v": 1, "event": "payload-output", "time": 1.5, "detail": {"text": "zwölf\n\x1b[31m"}}


def test_the_console_gets_no_control_characters() -> None:
    recorder = Recorder()
    recorder.status.say("a\x1b[2Jb\nc\x07")
    assert recorder.console.decode() == "cvm: a\ufffd[2Jb\r\ncvm: c\ufffd\r\n"


def test_a_long_event_is_shortened_to_a_line_that_fits() -> None:
    recorder = Recorder()
    reasons = [f"{number}: " + "\N{GREEK SMALL LETTER ALPHA}" * 400 for number in range(40)]
    recorder.status.event("refused", message="m" * 2 * MAX_LINE, reasons=reasons)
    (line,) = recorder.lines
    assert len(line) <= MAX_LINE
    detail = recorder.events[0]["detail"]
    assert detail["message"].startswith("mmm")
    assert detail["reasons"][0].startswith("0: α")


def test_a_character_cut_by_the_pieces_of_output_stays_whole(tmp_path: Path) -> None:
    told: list[str] = []
    text = "x" + "\N{GREEK SMALL LETTER ALPHA}" * 1500
    (tmp_path / "text").write_text(text, "utf-8")
    assert Payload([str(_script(tmp_path, "cat text"))], tmp_path, told.append).wait(10) == 0
    assert "".join(told) == text


def test_an_event_outside_the_protocol_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not in the protocol"):
        Recorder().status.event("exploded")


def test_a_lost_status_port_does_not_stop_the_work() -> None:
    def lost(data: bytes) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    said: list[bytes] = []
    status = Status(lost, said.append, lambda: 0.0)
    status.event("booted")
    status.event("running")
    assert said == [b"cvm: status port lost: Broken pipe\r\n"]

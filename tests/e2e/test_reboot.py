"""A real QEMU whose guest reboots: a boot sector that says a word on the serial port and asks for a reset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.cli import main
from launcher.io.toolchain import ToolchainMissing, find_toolchain

pytestmark = pytest.mark.qemu

VM = """
schema = 1
name = "again"
platform = "none"
memory = "128MiB"
accel = "tcg"
[boot]
firmware = "{bios}"
[[disk]]
path = "disk.img"
[lifecycle]
on_reboot = "{policy}"
retries = {retries}
"""
TEXT = b"Linux version 0 (a boot sector)\r\n"
CODE = bytes.fromhex(
    "fa"  # cli: the firmware's clock interrupt writes what it still has to say to COM1, else in the midst of the text
    "31c08ed8"  # xor ax, ax; mov ds, ax
    "be307c"  # mov si, 0x7c30: the text
    "baf803"  # mov dx, 0x3f8: COM1
    "ac84c07403"  # next: lodsb; test al, al; jz done
    "eeebf8"  # out dx, al; jmp next
    "b0fee664"  # done: mov al, 0xfe; out 0x64, al: the keyboard controller resets the machine
    "f4ebfd"  # hlt for ever
)


def boot_sector() -> bytes:
    return (CODE.ljust(0x30, b"\0") + TEXT + b"\0").ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.parametrize(
    ("policy", "launches", "words"),
    # SeaBIOS, when it finds its memory used, resets the machine once more before it boots again
    [("stop", [None], 1), ("relaunch", [None, None], 2), ("in-place", [None, True, True], 2)],
)
def test_a_guest_that_reboots_does_what_its_owner_said(
    policy: str, launches: list[object], words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    try:
        bios = Path(find_toolchain().firmware_dir).parent / "seabios" / "bios-256k.bin"
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    (tmp_path / "disk.img").write_bytes(boot_sector().ljust(1 << 20, b"\0"))
    (tmp_path / "vm.toml").write_text(VM.format(bios=bios, policy=policy, retries=len(launches) - 1))
    assert main(["launch", str(tmp_path / "vm.toml"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["state"], result["reason"][:29]) == ("stopped", "the guest asked for a reboot,")
    entries = _entries(capsys)
    assert [entry.get("in_place") for entry in entries if entry["event"] == "launch"] == launches
    said = sum(path.read_text().count(TEXT.decode().strip()) for path in (tmp_path / "state/again").glob("serial.log*"))
    assert said == words


def _entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    assert main(["ledger", "again", "--json"]) == 0
    entries: list[dict[str, object]] = json.loads(capsys.readouterr().out)["entries"]
    return entries

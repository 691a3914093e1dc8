"""``cvm measure`` held against a launch: the registers a TD really has are those predicted from its VM file."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from attest.evidence.chip_port import answer_stream
from attest.evidence.td_port import QuoteAnswer, QuoteRequest, decode_td_answer, encode_td_request
from launcher.cli import main
from launcher.io.cachedir import cache_folder
from launcher.io.toolchain import ToolchainMissing, find_toolchain
from tests.until import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

VM = """
schema = 1
name = "{name}"
platform = "emulated-tdx"
memory = "{memory}"
[cpu]
count = {vcpus}
[boot]
kernel = "{image}/vmlinuz"
initrd = "{image}/initrd.zst"
cmdline = "{cmdline}"
[[disk]]
path = "blank.img"
[[net]]
kind = "user"
[emulator]
state = "chip"
[tdx]
mrowner = "{mrowner}"
"""


@pytest.fixture
def image() -> Path:
    folder = cache_folder() / "image"
    if not (folder / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    if which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    try:
        find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)
    return folder


def vm(folder: Path, image: Path, name: str, **changes: object) -> str:
    (folder / "blank.img").write_bytes(bytes(1 << 20))
    settings = {"memory": "768MiB", "vcpus": 2, "cmdline": "console=ttyS0 quiet", "mrowner": "5a" * 48} | changes
    path = folder / f"{name}.toml"
    path.write_text(VM.format(name=name, image=image, **settings))
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *argv: str, want: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*argv, "--json"]) == want, capsys.readouterr().err
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def quote_from(chip: Path) -> bytes:
    """A quote from the emulated platform beside the running VM."""
    with socket.socket(socket.AF_UNIX) as port:
        port.settimeout(PATIENCE)
        port.connect(str(chip))
        port.sendall(encode_td_request(QuoteRequest(bytes(64))))
        stream = answer_stream()
        while True:
            for frame in stream.feed(port.recv(1 << 16)):
                found = decode_td_answer(frame)  # type: ignore[arg-type]
                assert isinstance(found, QuoteAnswer), found
                return found.quote


def test_a_launched_td_has_the_registers_measured_from_its_file_and_another_file_is_told_apart(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    measured = answer(capsys, "measure", vm(tmp_path, image, "td"), "-o", "td.json")
    assert measured["unpredicted"] == ["RTMR3: what the guest extends while it runs"]
    assert answer(capsys, "launch", "td.toml", "--detach")["state"] in ("booted", "running")
    try:
        Path("quote").write_bytes(quote_from(tmp_path / "state" / "td" / "emulator.sock"))
    finally:
        main(["stop", "td", "--force"])
    same = answer(capsys, "explain", "quote", "--vm", "td.toml")
    assert same["outcome"] == "same"
    assert same["reported_rtmr"][:3] == measured["rtmr"][:3]
    assert same["reported"] == measured["mrtd"]
    for name, register, changes in (
        ("memory", "RTMR0", {"memory": "1GiB"}),
        ("vcpus", "RTMR0", {"vcpus": 3}),
        ("cmdline", "RTMR2", {"cmdline": "console=ttyS0"}),
    ):
        other = answer(capsys, "explain", "quote", "--vm", vm(tmp_path, image, name, **changes), want=10)
        assert other["differing"] == [register], name

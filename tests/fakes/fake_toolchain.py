"""A cache folder whose toolchain is :mod:`tests.fakes.fake_qemu`, remembered to have the features of QEMU 11.1, and a
firmware of our own making.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from launcher.io.qemu_file import shipped
from launcher.io.qemu_known import remember
from launcher.io.toolchain import TOOLCHAIN_PACKAGES, fetched_toolchain
from tests.fakes import fake_qemu, firmware

VM = """
schema = 1
name = "{name}"
platform = "{platform}"
memory = "256MiB"
[boot]
kernel = "kernel"
initrd = "initrd"
cmdline = "{cmdline}"
[emulator]
state = "{chip}"
[isolation]
mode = "off"
"""
"""The fake QEMU is a script outside its toolchain folder, with an interpreter: a jail would keep it from starting."""

ATTESTING = """
[[net]]
kind = "user"
[attestation]
service = "https://127.0.0.1:8443"
ca = "ca.der"
"""


def make_cache(folder: Path) -> Path:
    """The value for ``CVM_CACHE``."""
    home = folder / "toolchain"
    for name in (
        "usr/lib/x86_64-linux-gnu",
        "usr/bin",
        "usr/share/ovmf",
        "usr/share/qemu/firmware",
        "usr/share/seabios",
    ):
        (home / name).mkdir(parents=True)
    loader = home / "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{fake_qemu.__file__}" "$@"\n')
    loader.chmod(0o755)
    (home / "usr/share/ovmf/OVMF.amdsev.fd").write_bytes(firmware.image())
    (home / "usr/bin/qemu-system-x86_64").write_bytes(b"not started: the loader stands for it")
    described = {"schema": "cvm.toolchain/1", "version": "11.1.2", "wanted": list(TOOLCHAIN_PACKAGES), "packages": []}
    (home / "toolchain.json").write_text(json.dumps(described))
    tools = fetched_toolchain(str(home))
    if tools is None:
        raise AssertionError("the toolchain is not as launcher.io.toolchain wants it")
    remember(tools, shipped("11.1"), cache=folder)
    return folder


def write_vm(folder: Path, chip: Path, *, name: str = "vm-1", platform: str = "none", cmdline: str = "") -> Path:
    """A VM file with its kernel and initrd; an emulated one also attests."""
    (folder / "kernel").write_bytes(b"kernel" * 1000)
    (folder / "initrd").write_bytes(b"initrd" * 1000)
    (folder / "ca.der").write_bytes(b"\x30\x82\x01\x00" + bytes(256))
    text = VM.format(name=name, platform=platform, chip=chip, cmdline=cmdline)
    path = folder / f"{name}.toml"
    path.write_text(text + (ATTESTING if platform != "none" else ""))
    return path

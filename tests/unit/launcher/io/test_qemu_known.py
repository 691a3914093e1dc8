"""A QEMU is asked what it can do once: the very binary, in a process of its own, and again when it has changed."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.core.qemu_features import Capabilities
from launcher.errors import QemuFailed, QmpMalformed
from launcher.io import qemu_known, qemu_probe
from launcher.io.build_id import build_id
from launcher.io.qemu_file import FeaturesMalformed, from_document, shipped, to_document
from launcher.io.qemu_known import known_capabilities
from launcher.io.qemu_probe import probe_capabilities
from launcher.io.toolchain import Toolchain, ToolchainMissing, find_toolchain, parse_version


def real_tools() -> Toolchain:
    try:
        return find_toolchain()
    except ToolchainMissing as exc:
        pytest.skip(exc.message)


def elf(build: bytes) -> bytes:
    """An ELF file of one note segment with two notes."""
    notes = struct.pack("<III", 4, 4, 1) + b"GNU\0" + bytes(4)
    notes += struct.pack("<III", 4, len(build), 3) + b"GNU\0" + build
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 16, 16, 4096)
    return head + load + struct.pack("<IIQQQQQQ", 4, 4, 64 + 2 * 56, 0, 0, len(notes), len(notes), 4) + notes


def test_the_build_id_is_read_from_the_notes(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(elf(bytes(range(20))))
    assert build_id(str(tmp_path / "q")) == bytes(range(20)).hex()


def test_a_file_without_a_build_id_has_an_empty_one(tmp_path: Path) -> None:
    whole = elf(b"")
    for data in (b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01", whole, b"\x7fELF\x02\x01" + b"\xff" * 200):
        (tmp_path / "q").write_bytes(data)
        assert build_id(str(tmp_path / "q")) == ""
    with pytest.raises(OSError, match="absent"):
        build_id(str(tmp_path / "absent"))


def test_a_cut_off_file_never_has_a_wrong_build_id(tmp_path: Path) -> None:
    whole = elf(bytes(range(20)))
    for length in range(0, len(whole), 3):
        (tmp_path / "q").write_bytes(whole[:length])
        assert bytes(range(20)).hex().startswith(build_id(str(tmp_path / "q")))


@pytest.mark.qemu
def test_the_shipped_file_of_this_qemu_is_what_the_binary_reports() -> None:
    tools = real_tools()
    if parse_version(tools.version)[:2] != (11, 1):
        pytest.skip(f"this machine's QEMU is {tools.version}")
    asked, known = probe_capabilities(tools), shipped("11.1")
    assert (asked.features, asked.machine, asked.version[:2]) == (known.features, known.machine, known.version)
    assert build_id(tools.binary)


Scene = tuple[Toolchain, list[str]]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A toolchain, and the list that grows whenever its QEMU is asked."""
    monkeypatch.setenv("CVM_CACHE", str(tmp_path / "cache"))
    binary = tmp_path / "qemu-system-x86_64"
    binary.write_bytes(elf(b"one-build-of-it....."))
    calls: list[str] = []

    def probe(tools: Toolchain) -> Capabilities:
        calls.append(tools.binary)
        return shipped("11.1")

    monkeypatch.setattr(qemu_probe, "probe_capabilities", probe)
    return Toolchain((str(binary), "-L", "/x"), {"QEMU_MODULE_DIR": "/m"}, "11.1.2", "", "", "system"), calls


def test_a_known_qemu_is_not_asked_again(asked: Scene) -> None:
    tools, calls = asked
    first = known_capabilities(tools)
    assert known_capabilities(tools) == first
    assert len(calls) == 1
    assert first.build == b"one-build-of-it.....".hex()
    known_capabilities(tools._replace(env={"QEMU_MODULE_DIR": "/other"}))
    assert len(calls) == 2


def _touch(binary: Path) -> None:
    os.utime(binary, ns=(1, 1))


def _grow(binary: Path) -> None:
    status = binary.stat()
    with binary.open("ab") as file:
        file.write(b"x")
    os.utime(binary, ns=(status.st_atime_ns, status.st_mtime_ns))


def _rebuild(binary: Path) -> None:
    status = binary.stat()
    binary.write_bytes(elf(b"another-build-of-it."))
    os.utime(binary, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [_touch, _grow, _rebuild])
def test_a_qemu_that_changed_is_asked_again(asked: Scene, change: Callable[[Path], None]) -> None:
    tools, calls = asked
    known_capabilities(tools)
    change(Path(tools.binary))
    known_capabilities(tools)
    assert len(calls) == 2


def _entry() -> Path:
    return next((Path(os.environ["CVM_CACHE"]) / "qemu").iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"file": 1, "known": {}}', "\0" * 99], ids=repr)
def test_a_damaged_entry_is_asked_for_again(asked: Scene, text: str) -> None:
    tools, calls = asked
    known_capabilities(tools)
    _entry().write_text(text)
    assert known_capabilities(tools).features == shipped("11.1").features
    assert len(calls) == 2
    known_capabilities(tools)
    assert len(calls) == 2


def test_an_entry_of_a_release_that_asked_less_is_asked_for_again(asked: Scene) -> None:
    tools, calls = asked
    known_capabilities(tools)
    document = json.loads(_entry().read_text())
    document["known"]["features"].remove("object:sev-snp-guest")
    _entry().write_text(json.dumps(document))
    known_capabilities(tools)
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(asked: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    tools, calls = asked
    monkeypatch.setattr(qemu_known, "cache_place", lambda: "/proc/none")
    assert known_capabilities(tools) == known_capabilities(tools)
    assert len(calls) == 2


BROKEN: dict[str, object] = {
    "schema": "cvm.qemu-features/2", "version": "eleven", "source": 1, "build": None, "machine": [], "features": 7,
    "lacks": [],
}  # fmt: skip


@pytest.mark.parametrize("member", BROKEN)
def test_a_file_with_one_wrong_member_is_refused(member: str) -> None:
    document = to_document(shipped("11.1"))
    assert from_document(document, "f") == shipped("11.1")
    with pytest.raises(FeaturesMalformed, match="f: "):
        from_document({**document, member: BROKEN[member]}, "f")
    with pytest.raises(FeaturesMalformed, match="f: "):
        from_document({name: value for name, value in document.items() if name != member}, "f")


def _script(tmp_path: Path, body: str) -> Toolchain:
    """A program in QEMU's place; ``fd`` is its end of the monitor."""
    path = tmp_path / "qemu"
    head = "import json, re, socket, sys\nfd = int(re.search(r'fd=(\\d+)', ' '.join(sys.argv))[1])\n"
    path.write_text(f"{head}{body}\n")
    return Toolchain((sys.executable, str(path)), {}, "11.1.2", "", "", "system")


def test_a_qemu_that_ends_when_asked_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(QemuFailed, match=r"ended when asked what it can do: no \\x1b\[7mlibrary"):
        probe_capabilities(_script(tmp_path, "sys.exit('no \\x1b[7mlibrary')"))


def test_a_qemu_that_answers_nonsense_is_told(tmp_path: Path) -> None:
    greeting = '{"QMP": {"version": {"qemu": {"major": 11, "minor": 1, "micro": 0}}, "capabilities": []}}'
    body = f"s = socket.socket(fileno=fd)\ns.sendall(b'{greeting}\\n')\nfor _ in s.makefile():\n"
    body += "    s.sendall(b'{\"return\": {}}\\n')"
    with pytest.raises(QmpMalformed, match="query-machines"):
        probe_capabilities(_script(tmp_path, body))


def test_a_qemu_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(QemuFailed, match="absent: No such file"):
        probe_capabilities(Toolchain((str(tmp_path / "absent"),), {}, "", "", "", "system"))

"""Finding QEMU: the system's when it is good enough, the fetched one otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launcher.core.debian import Package
from launcher.io import toolchain, toolchain_fetch
from launcher.io.toolchain import (
    TOOLCHAIN_PACKAGES,
    ToolchainMissing,
    find_toolchain,
    parse_version,
)
from launcher.io.toolchain_fetch import fetch_toolchain


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with no QEMU and no firmware; its folders are ``bin`` and ``ovmf`` of the returned one."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "ovmf").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(toolchain, "SYSTEM_FIRMWARE", str(tmp_path / "ovmf"))
    return tmp_path


def install_qemu(system: Path, version: str) -> None:
    binary = system / "bin" / "qemu-system-x86_64"
    binary.write_text(f"#!/bin/sh\necho 'QEMU emulator version {version} (Debian 1:{version}+ds-1)'\n")
    binary.chmod(0o755)


def cached(cache: Path, **changes: object) -> None:
    home = cache / "toolchain"
    (home / "usr/share/ovmf").mkdir(parents=True)
    (home / "usr/share/ovmf/OVMF.amdsev.fd").touch()
    described = {"schema": "cvm.toolchain/1", "version": "11.1.2", "wanted": list(TOOLCHAIN_PACKAGES), "packages": []}
    (home / "toolchain.json").write_text(json.dumps(described | changes))


@pytest.mark.parametrize(
    ("text", "parts"), [("11.1.2", (11, 1, 2)), ("10.1", (10, 1)), ("10.0.2", (10, 0, 2)), ("", ()), ("rubbish", ())]
)
def test_versions_are_compared_by_number(text: str, parts: tuple[int, ...]) -> None:
    assert parse_version(text) == parts


def test_a_new_system_qemu_with_firmware_is_used(system: Path) -> None:
    install_qemu(system, "10.2.1")
    (system / "ovmf" / "OVMF.amdsev.fd").touch()
    found = find_toolchain(system / "cache")
    assert (found.source, found.version, found.firmware_dir) == ("system", "10.2.1", str(system / "ovmf"))
    assert found.qemu_argv == (str(system / "bin" / "qemu-system-x86_64"),)


@pytest.mark.parametrize(
    ("version", "firmware", "reason"),
    [(None, True, "not installed"), ("10.0.9", True, "is 10.0.9"), ("11.1.0", False, "OVMF.amdsev.fd is missing")],
)
def test_a_system_that_is_not_good_enough_is_refused_with_the_reason(
    system: Path, version: str | None, firmware: bool, reason: str
) -> None:
    if version is not None:
        install_qemu(system, version)
    if firmware:
        (system / "ovmf" / "OVMF.amdsev.fd").touch()
    with pytest.raises(ToolchainMissing, match=reason):
        find_toolchain(system / "cache")


def test_the_fetched_qemu_runs_through_its_own_loader(system: Path) -> None:
    cached(system / "a cache")
    found = find_toolchain(system / "a cache")
    assert found.source == "cache"
    assert found.qemu_argv[0].endswith("ld-linux-x86-64.so.2")
    assert all(str(system / "a cache") in value for value in found.env.values())


@pytest.mark.parametrize("change", [{"schema": "other"}, {"wanted": ["qemu"]}, {"version": "9.2"}])
def test_a_fetched_toolchain_for_other_wishes_is_not_used(system: Path, change: dict[str, object]) -> None:
    cached(system / "cache", **change)
    with pytest.raises(ToolchainMissing):
        find_toolchain(system / "cache")


def test_a_present_toolchain_is_not_fetched_again(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(system / "cache")

    def no_network(*_: object) -> tuple[Package, ...]:
        raise AssertionError("must not fetch")

    monkeypatch.setattr(toolchain_fetch.AptFolder, "fetch", no_network)
    assert fetch_toolchain(system / "cache", progress=lambda text: None).version == "11.1.2"

"""A machine with a fake QEMU and the real emulated chip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_toolchain import make_cache, write_vm


@pytest.fixture(scope="session")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One emulated chip for all tests: its RSA keys take seconds to make."""
    return tmp_path_factory.mktemp("chip")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for VM files; state and cache are the test's own."""
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CVM_CACHE", str(make_cache(tmp_path / "cache")))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("FAKE_QEMU_POWER", raising=False)
    folder = tmp_path / "vms"
    folder.mkdir()
    return folder


Scene = Callable[..., Path]


@pytest.fixture
def scene(machine: Path, chip: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """``scene(steps, platform=…)`` prepares what the fake QEMU plays; the VM file."""

    def prepare(*steps: list[Any], platform: str = "none", **options: str) -> Path:
        monkeypatch.setenv("FAKE_QEMU_SCENE", json.dumps(steps))
        return write_vm(machine, chip, platform=platform, **options)

    return prepare

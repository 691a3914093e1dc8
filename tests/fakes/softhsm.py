"""A real PKCS#11 token: SoftHSM2 with its objects in a folder of the test."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
PIN = "271828"


def configure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point SoftHSM to ``folder`` for this process and its children; returns the library."""
    module = next((Path(path) for path in MODULES if Path(path).exists()), None)
    if module is None or shutil.which("softhsm2-util") is None:
        pytest.skip("no SoftHSM2: apt-get install softhsm2")
    (folder / "tokens").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
    return module


def make_token(label: str) -> None:
    """A token of that label with the PIN."""
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "314159", "--pin", PIN],
        check=True, capture_output=True,
    )  # fmt: skip


def description(module: Path, folder: Path, token: str = "attest", key: str = "master-1") -> str:
    """The key's JSON object; its PIN is in a file of ``folder``."""
    pin = folder / "hsm.pin"
    if not pin.exists():
        pin.touch(0o600)
        pin.write_text(PIN + "\n")
    return json.dumps({"module": str(module), "token": token, "key": key, "pin_file": str(pin)})

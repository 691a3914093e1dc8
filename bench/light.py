"""``light = true`` against the default profile of the same VM file: time from ``cvm launch`` to the guest's init.

Whole launches with the image of `make demo` under the accelerator this machine has, interleaved. An archive behind the
initrd has an init that says so on the console, where the host sees it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._bytecode import compile_launcher
from bench._idle import IDLE, SAYS, idle_init

ROUNDS = 5
TARGET = 0.6
PATIENCE = 120.0
PROGRAM = str(Path(sys.executable).parent / "cvm")
VM = """schema = 1
name = "{name}"
platform = "none"
memory = "512MiB"
light = {light}
[cpu]
count = 2
[boot]
kernel = "{image}/vmlinuz"
initrd = "{initrd}"
cmdline = "console=ttyS0 rdinit={init}"
"""


def run() -> list[dict[str, Any]]:
    """The row of this comparison."""
    compile_launcher()
    image = Path(__file__).resolve().parent.parent / ".cache" / "cvm" / "image"
    walls: dict[str, list[float]] = {"light": [], "default": []}
    with tempfile.TemporaryDirectory() as folder:
        initrd = Path(folder) / "initrd"
        initrd.write_bytes((image / "initrd.zst").read_bytes() + idle_init())
        for name in walls:
            text = VM.format(name=name, light=str(name == "light").lower(), image=image, initrd=initrd, init=IDLE)
            (Path(folder) / f"{name}.toml").write_text(text)
        for _ in range(ROUNDS):
            for name, found in walls.items():
                found.append(_to_init(Path(folder), name))
    light, default = (statistics.median(walls[name]) for name in ("light", "default"))
    return [
        {
            "name": "light profile: launch to init",
            "ours": f"{light:.2f} s",
            "peer": f"{default:.2f} s",
            "ratio": f"{light / default:.2f}×",
            "target": f"≤ {TARGET:g}× the default profile",
            "met": light / default <= TARGET,
            "detail": f"median of {ROUNDS} launches each, interleaved; 2 vCPUs, the image of `make demo`",
        }
    ]


def _to_init(folder: Path, name: str) -> float:
    environment = os.environ | {"CVM_STATE": str(folder / "state")}
    log = folder / "state" / name / "serial.log"
    start = time.perf_counter()
    launcher = subprocess.Popen([PROGRAM, "launch", str(folder / f"{name}.toml"), "--quiet"], env=environment)
    try:
        while SAYS not in (log.read_bytes() if log.exists() else b""):
            if time.perf_counter() - start > PATIENCE or launcher.poll() is not None:
                raise RuntimeError(f"{name}: no init within {PATIENCE:g} s")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        subprocess.run([PROGRAM, "stop", name, "--force"], env=environment, stdout=subprocess.DEVNULL, check=False)
        launcher.wait()
        log.unlink(missing_ok=True)

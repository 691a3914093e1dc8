"""``cvm --help`` and ``cvm ps`` against ``python -c pass``: whole processes, interleaved, medians.

``ps`` lists five VMs: an operator has some. The target is the start-up an operator does not notice: three times what
the interpreter needs to do nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench._bytecode import compile_launcher

ROUNDS = 31
TARGET = 3.0
VMS = 5


def run() -> list[dict[str, Any]]:
    """The rows of this comparison."""
    compile_launcher()
    program = str(Path(sys.executable).parent / "cvm")
    with tempfile.TemporaryDirectory() as folder:
        _some_vms(Path(folder))
        environment = os.environ | {"CVM_STATE": folder}
        commands = {
            "nothing": [sys.executable, "-c", "pass"],
            "cvm --help": [program, "--help"],
            "cvm ps": [program, "ps"],
        }
        walls: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                walls[name].append(_wall(command, environment))
    nothing = statistics.median(walls["nothing"])
    return [_row(name, statistics.median(walls[name]), nothing) for name in commands if name != "nothing"]


def _some_vms(root: Path) -> None:
    for number in range(VMS):
        folder = root / f"vm-{number}"
        folder.mkdir(mode=0o700)
        state = {
            "schema": "cvm.state/1", "name": folder.name, "state": "running", "platform": "sev-snp", "vcpus": 4,
            "memory": 4 << 30, "since": "2026-01-01T00:00:00+00:00", "reason": "", "launch_digest": "00" * 48,
            "launcher": {"pid": os.getpid(), "start": 1, "boot": ""}, "qemu": None, "emulator": None,
        }  # fmt: skip
        (folder / "state.json").write_text(json.dumps(state))


def _wall(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def _row(name: str, ours: float, nothing: float) -> dict[str, Any]:
    ratio = ours / nothing
    return {
        "name": f"start-up of {name}",
        "ours": f"{ours * 1000:.1f} ms",
        "peer": f"{nothing * 1000:.1f} ms",
        "ratio": f"{ratio:.2f}×",
        "target": f"≤ {TARGET:g}× `python -c pass`",
        "met": ratio <= TARGET,
        "detail": f"median of {ROUNDS} whole processes each, interleaved",
    }

"""A throw-away world for one scenario: folders, a service with its own PKI, an emulated chip, VM files.

Everything is driven through the two programs' command lines, as an operator would; nothing here reaches into them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.until import PATIENCE

LAUNCHED = ("--timeout", "400")
"""For `cvm launch`: what it plans for emulated processors is for processors that have nothing else to do."""
ROOT = Path(__file__).resolve().parents[2]


class StepFailed(Exception):
    """A command of the scenario did something else than the scenario expects."""


@dataclass
class Done:
    """A finished command."""

    argv: Sequence[str]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its standard output as JSON."""
        try:
            return json.loads(self.out)
        except ValueError as exc:
            raise StepFailed(f"{' '.join(self.argv)}: no JSON on stdout: {exc}\n{self.out}\n{self.err}") from None


@dataclass
class World:
    """Folders and processes of one scenario below ``folder``."""

    folder: Path
    image: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self) -> Mapping[str, str]:
        """Where the programs keep state during the scenario."""
        return os.environ | {"CVM_STATE": str(self.folder / "vms"), "PYTHONUNBUFFERED": "1"}

    def run(self, *argv: str, want: int | None = 0, stdin: bytes | None = None, seconds: float = 450) -> Done:
        """Run ``cvm …`` or ``attest …``; ``want`` is the exit code that must come back."""
        module = {"cvm": "launcher", "attest": "attest"}[argv[0]]
        argv += LAUNCHED if argv[:2] == ("cvm", "launch") else ()
        process = subprocess.Popen(
            [sys.executable, "-m", module, *argv[1:]],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(self.environment()),
            cwd=self.folder,
        )
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        done = Done(argv, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
        if want is not None and done.code != want:
            raise StepFailed(f"{' '.join(argv)}: exit {done.code}, want {want}\n{done.out}{done.err}")
        return done

    def start(self, *argv: str, ready: str, seconds: float = PATIENCE) -> subprocess.Popen[bytes]:
        """Start a long-running program; wait until its standard error shows ``ready``."""
        log = self.folder / f"{argv[0]}-{argv[1]}.log"
        module = {"cvm": "launcher", "attest": "attest"}[argv[0]]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=dict(self.environment()),
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes.append(process)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if ready in log.read_text(errors="replace"):
                return process
            if process.poll() is not None:
                raise StepFailed(f"{' '.join(argv)}: exited {process.returncode}\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        raise StepFailed(f"{' '.join(argv)}: not ready after {seconds:.0f} s\n{log.read_text(errors='replace')}")

    def close(self) -> None:
        """Stop what is still running, politely first."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait_until_booted(serial: Path, qemu: subprocess.Popen[bytes], word: bytes = b"agent started") -> None:
    """Until the console shows ``word``; a kernel that speaks has ended boot services."""
    deadline = time.monotonic() + 150
    while word not in (serial.read_bytes() if serial.exists() else b""):
        if time.monotonic() > deadline or qemu.poll() is not None:
            raise StepFailed(f"{serial}: QEMU ended, or the guest did not boot in 150 s")
        time.sleep(0.2)

"""``cvm measure`` against ``sev-snp-measure``: the two installed commands as whole processes, in interleaved pairs.

4 MiB OVMF for measured boot; 8 vCPUs with a kernel of 12 MB and an initrd of 18 MB (about what our own guest has);
then 1, 8, 64 and 256 vCPUs, without a kernel and with one of 15 MB and an initrd of 60 MB of random bytes. Reported:
the median of the pairs' ratios of wall time, which a machine that gets busier in between disturbs least, and the peak
resident memory of our process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 15
CMDLINE = "console=ttyS0 root=/dev/mapper/root"
LARGE, USUAL = (15_000_000, 60_000_000), (12_000_000, 18_000_000)  # kernel, initrd
VCPUS = ("1", "8", "64", "256")
FASTER, MEMORY_MB = 1.8, 30.0
PACKAGES = ("policy", "ovmf", "launcher")


class Cost(NamedTuple):
    """One process: wall and CPU seconds, peak resident megabytes (10^6 bytes)."""

    wall: float
    cpu: float
    memory: float


def run() -> list[dict[str, Any]]:
    """The rows of this comparison."""
    firmware = firmware_path()
    root = Path(__file__).resolve().parent.parent
    # an installed wheel has its bytecode; an editable install may not
    subprocess.run([sys.executable, "-m", "compileall", "-q", *(str(root / name) for name in PACKAGES)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        large, usual = _boot_files(Path(folder), "large", LARGE), _boot_files(Path(folder), "usual", USUAL)
        rows = _compare(firmware, "8", usual, ", kernel 12 MB + initrd 18 MB")
        for boot, words in (((), ""), (large, ", kernel 15 MB + initrd 60 MB")):
            for vcpus in VCPUS:
                rows += _compare(firmware, vcpus, boot, words)
        return rows


def _boot_files(folder: Path, name: str, sizes: tuple[int, int]) -> tuple[str, str]:
    kernel, initrd = folder / f"{name}-kernel", folder / f"{name}-initrd"
    for path, size in zip((kernel, initrd), sizes, strict=True):
        path.write_bytes(os.urandom(size))
    return str(kernel), str(initrd)


def _compare(firmware: Path, vcpus: str, boot: tuple[str, ...], words: str) -> list[dict[str, Any]]:
    ours, theirs = _commands(str(firmware), vcpus, boot)
    if _digest(ours) != _digest(theirs):
        raise SystemExit("bench: the two programs disagree about the launch digest")
    pairs = [(_cost(ours), _cost(theirs)) for _ in range(ROUNDS)]
    return _rows(f"cvm measure, {vcpus} vCPUs{words}", [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def firmware_path() -> Path:
    named = os.environ.get("CVM_OVMF")
    if named:
        return Path(named)
    from launcher.io.toolchain import find_toolchain

    return Path(find_toolchain().firmware_dir) / "OVMF.amdsev.fd"


def _commands(firmware: str, vcpus: str, boot: tuple[str, ...]) -> tuple[list[str], list[str]]:
    bin_folder = Path(sys.executable).parent
    ours = [
        str(bin_folder / "cvm"), "measure", "--platform", "sev-snp", "--firmware", firmware, "--vcpus", vcpus,
        "--cpu-model", "EPYC-v4",
    ]  # fmt: skip
    theirs = [
        str(bin_folder / "sev-snp-measure"), "--mode", "snp", "--ovmf", firmware, "--vcpus", vcpus,
        "--vcpu-type", "EPYC-v4",
    ]  # fmt: skip
    if boot:
        ours += ["--kernel", boot[0], "--initrd", boot[1], "--cmdline", CMDLINE]
        theirs += ["--kernel", boot[0], "--initrd", boot[1], "--append", CMDLINE]
    return ours, theirs


def _digest(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.split()[0]


# A small process in between: the kernel counts the memory of the process that spawns into the peak of the one spawned.
_SPAWN = """
import os, sys, time
null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
start = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], dict(os.environ), file_actions=null)
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter() - start
print(status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


def _cost(command: list[str]) -> Cost:
    spawn = [sys.executable, "-I", "-S", "-c", _SPAWN, *command]
    status, wall, cpu, kib = subprocess.run(spawn, check=True, capture_output=True, text=True).stdout.split()
    if status != "0":
        raise SystemExit(f"bench: {command[0]} failed with wait status {status}")
    return Cost(float(wall), float(cpu), int(kib) * 1024 / 1e6)


def _rows(name: str, ours: list[Cost], theirs: list[Cost]) -> list[dict[str, Any]]:
    wall, peer = (statistics.median(cost.wall for cost in costs) for costs in (ours, theirs))
    cpu, peer_cpu = (statistics.median(cost.cpu for cost in costs) for costs in (ours, theirs))
    peak, peer_peak = (max(cost.memory for cost in costs) for costs in (ours, theirs))
    quartiles = statistics.quantiles((b.wall / a.wall for a, b in zip(ours, theirs, strict=True)), n=4)
    ratio = quartiles[1]
    return [
        {
            "name": f"{name}: whole process",
            "ours": f"{wall * 1e3:.1f} ms",
            "peer": f"{peer * 1e3:.1f} ms",
            "ratio": f"{ratio:.2f}x",
            "target": f">= {FASTER}x faster than sev-snp-measure 0.0.13",
            "met": ratio >= FASTER,
            "detail": f"{ROUNDS} interleaved pairs, pairwise quartiles {quartiles[0]:.2f}..{quartiles[2]:.2f}x; "
            f"CPU {cpu * 1e3:.0f} against {peer_cpu * 1e3:.0f} ms",
        },
        {
            "name": f"{name}: peak memory",
            "ours": f"{peak:.1f} MB",
            "peer": f"{peer_peak:.1f} MB",
            "ratio": f"{peer_peak / peak:.2f}x",
            "target": f"< {MEMORY_MB:.0f} MB",
            "met": peak < MEMORY_MB,
            "detail": "highest of all runs, maximum resident set of the whole process (wait4)",
        },
    ]

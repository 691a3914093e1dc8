"""Limits of disks as a guest measures them, against the configured ones: operations and bytes per second, one disk
and a group of two, and changed while the guest reads (``cvm throttle``).

A real guest (the image of `make demo`) reads with O_DIRECT from several threads and says on its console what it got;
how much it gets without limits is measured in the same run, so that a limit that does not bind would be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from launcher.image.cpio import archive, file

TARGET = 0.05
PATIENCE = 180.0
PROGRAM = str(Path(sys.executable).parent / "cvm")
IOPS, CHANGED, BPS, GROUP = 300, 700, 8 << 20, 400
# Each phase: what is read (bytes at once, disks); the host sets the limits when the phase before has been heard.
GUEST = b"""#!/usr/bin/python3
import mmap, os, random, sys, threading, time
sys.path.insert(0, "/usr/lib/python3/dist-packages")
import cvm_init
for words in cvm_init.MOUNTS:
    cvm_init.mount(*words)
cvm_init.load_modules()
console = open("/dev/console", "w")
SECONDS = 6.0
def reader(descriptor, size, counts, end):
    buffer = mmap.mmap(-1, size)
    blocks = (32 << 20) // size
    while time.monotonic() < end:
        os.preadv(descriptor, [buffer], random.randrange(blocks) * size)
        counts.append(time.monotonic())
def measure(size, disks):
    end, counts, threads = time.monotonic() + SECONDS + 1, [], []
    for disk in disks:
        descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECT)
        threads += [threading.Thread(target=reader, args=(descriptor, size, counts, end)) for _ in range(4)]
    start = time.monotonic() + 1  # what a full bucket lets through at once is not a rate
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return sum(1 for at in counts if start <= at < start + SECONDS) / SECONDS
print("measured start", file=console, flush=True)
one, two = ("/dev/vda",), ("/dev/vdb", "/dev/vdc")
for name, size, disks in (("free", 4096, one), ("iops", 4096, one), ("changed", 4096, one), ("bps", 65536, one),
                          ("group", 4096, two)):
    time.sleep(2)
    print("measured", name, round(measure(size, disks) * (size if name == "bps" else 1), 2), file=console, flush=True)
time.sleep(60)
"""
VM = """schema = 1
name = "limits"
platform = "none"
memory = "512MiB"
[cpu]
count = 1
[boot]
kernel = "{image}/vmlinuz"
initrd = "{folder}/initrd"
cmdline = "console=ttyS0 quiet rdinit=/measure"
[[throttle]]
name = "pair"
iops_total = {group}
[[disk]]
path = "a.img"
[disk.throttle]
iops_total = 1000000
[[disk]]
path = "b.img"
throttle_group = "pair"
[[disk]]
path = "c.img"
throttle_group = "pair"
"""
STEPS = {
    "free": ["--iops-total", str(IOPS)],
    "iops": ["--iops-total", str(CHANGED)],
    "changed": ["--off", "--bps-total", f"{BPS >> 20}MiB"],
}
"""After which measurement which limits are set."""


def run() -> list[dict[str, Any]]:
    """The rows of this comparison."""
    found = _measured()
    free = found["free"]
    return [
        _row("a limit on operations", found["iops"], IOPS, free),
        _row("the limit changed while it runs", found["changed"], CHANGED, free),
        _row("a limit on bytes", found["bps"], BPS, free * 4096),
        _row("one allowance for two disks", found["group"], GROUP, free),
    ]


def _measured() -> dict[str, float]:
    image = Path(__file__).resolve().parent.parent / ".cache" / "cvm" / "image"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extra = archive([file("measure", GUEST, executable=True)])
        (folder / "initrd").write_bytes((image / "initrd.zst").read_bytes() + extra)
        (folder / "limits.toml").write_text(VM.format(image=image, folder=folder, group=GROUP))
        for disk in "abc":
            with open(folder / f"{disk}.img", "wb") as made:
                made.truncate(32 << 20)
        environment = os.environ | {"CVM_STATE": str(folder / "state")}
        child = subprocess.Popen(
            [PROGRAM, "launch", str(folder / "limits.toml")], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            return _follow(folder / "state" / "limits" / "serial.log", environment)
        finally:
            child.terminate()
            child.wait()


def _follow(log: Path, environment: dict[str, str]) -> dict[str, float]:
    """Every measurement by its name; the limits of the next one are set as soon as one is heard."""
    found: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE
    while "group" not in found:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the guest measured {json.dumps(found)} only: {_text(log)[-800:]}")
        time.sleep(0.1)
        for words in (line.split() for line in _text(log).splitlines() if line.startswith("measured ")):
            if len(words) == 3 and words[1] not in found:
                found[words[1]] = float(words[2])
                if words[1] in STEPS:
                    command = [PROGRAM, "throttle", "limits", "--disk", "disk0", *STEPS[words[1]]]
                    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return found


def _text(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""


def _row(name: str, ours: float, limit: float, free: float) -> dict[str, Any]:
    off = ours / limit - 1
    return {
        "name": f"disk limits: {name}",
        "ours": f"{ours:.0f}/s",
        "peer": f"{limit:.0f}/s",
        "ratio": f"{ours / limit:.3f}×",
        "target": f"within {TARGET:.0%} of the limit",
        "met": abs(off) <= TARGET,
        "detail": f"as the guest counted over 6 s; without limits {free:.0f}/s with 4 KiB each in the same run",
    }

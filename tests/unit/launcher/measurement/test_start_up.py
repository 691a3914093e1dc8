"""What a plain ``cvm measure`` and a launch load: each of these modules costs milliseconds an operator waits for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fakes import firmware as fake

PROBE = """
import sys
before = set(sys.modules)
from launcher.cli import main
status = main(sys.argv[1:])
print(*sorted(set(sys.modules) - before), file=sys.stderr)
sys.exit(status)
"""
COSTLY = {
    "argparse", "re", "enum", "typing", "dataclasses", "pathlib", "json", "logging", "subprocess", "threading", "datetime",
    "functools", "collections", "tomllib", "uuid", "ctypes", "cryptography", "importlib", "warnings",
}  # fmt: skip


def test_a_plain_measurement_loads_nothing_costly(repo: Path, tmp_path: Path) -> None:
    for name, data in (("fw", fake.image()), ("kernel", b"k"), ("initrd", b"i")):
        (tmp_path / name).write_bytes(data)
    argv = ["measure", "--firmware", "fw", "--vcpus", "2", "--cpu-model", "EPYC-v4", "--kernel", "kernel"]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(repo)!r})\n{PROBE}", *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stderr.split()) & COSTLY == set()
    assert len(done.stdout.splitlines()[0]) == 96


def test_beside_a_starting_qemu_neither_openssl_nor_what_only_other_vms_need_is_loaded(repo: Path) -> None:
    beside = "import launcher.service.launching, launcher.io.qmp, launcher.service.supervisor"
    probe = f"import sys; sys.path.insert(0, {str(repo)!r}); {beside}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, check=True)
    assert (
        set(done.stdout.split()) & {"hashlib", "ssl", "subprocess", "typing", "argparse", "threading", "pathlib"}
        == set()
    )

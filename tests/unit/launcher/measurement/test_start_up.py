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


GREETING = """
import os, socket, sys, threading, time
sys.path.insert(0, sys.argv[1])
os.chdir(sys.argv[2])
from launcher.io.qemu import greeting_monitor
from launcher.io.statedir import VmDir
listener = socket.socket(socket.AF_UNIX)
listener.bind("qmp.sock")
listener.listen()
def greet():
    side = listener.accept()[0]
    time.sleep(0.2)
    side.sendall(b"hello")
threading.Thread(target=greet).start()
class Living:
    poll = staticmethod(lambda: None)
monitor = greeting_monitor(VmDir("..", os.path.basename(os.getcwd())), Living)
monitor.setblocking(False)
print(monitor.recv(9).decode(), *sys.modules)
"""


def test_until_qemu_greets_the_launcher_loads_nothing_of_what_watches_it(repo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", GREETING, str(repo), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "hello"
    assert {"launcher.io.sockets"} < set(said)
    assert set(said) & {"json", "launcher.io.qmp", "launcher.service.supervisor", "launcher.io.control"} == set()


def test_beside_a_starting_qemu_neither_openssl_nor_what_only_other_vms_need_is_loaded(repo: Path) -> None:
    beside = "import launcher.service.launching, launcher.io.qmp, launcher.service.supervisor"
    probe = f"import sys; sys.path.insert(0, {str(repo)!r}); {beside}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe], capture_output=True, text=True, check=True)
    assert (
        set(done.stdout.split()) & {"hashlib", "ssl", "subprocess", "typing", "argparse", "threading", "pathlib"}
        == set()
    )

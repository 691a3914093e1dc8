"""``cvm exec`` for real: an emulated chip, a service, QEMU, the measured image. A VM that measures the same and is called
otherwise by its init-data gets no key, and a refused guest runs nothing; the right one runs what the operator of its
measured command line asks for, inside the root file system of the VM. In the end it moves to another state folder, cold, where the same policy releases its
disk's key again.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from launcher.io.cachedir import cache_folder
from launcher.provision import ImageOrder, ensure_base
from tests.e2e.root_tree import plant
from tests.e2e.story import free_port
from tests.e2e.world import World
from tests.until import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

VM = """
schema = 1
name = "{name}"
platform = "emulated-snp"
memory = "768MiB"
[boot]
kernel = "{image}/vmlinuz"
initrd = "{image}/initrd.zst"
[[disk]]
path = "disks/guest.img"
encrypted = {{ resource = "default/guest/root", name = "root" }}
[[disk]]
path = "disks/system.img"
serial = "system"
[disk.verity]
root_hash = "{root_hash}"
blocks = {blocks}
[[net]]
kind = "user"
backend = "{backend}"
[emulator]
state = "{chip}"
[init_data]
service = "shop"
resources = ["default/guest/root"]
[attestation]
service = "https://127.0.0.1:{port}"
ca = "service/ca.pem"
"""
CONFIG = ("--config", "service/attest.toml")
PROGRAM = "text=$(cat); echo $text | tr a-z A-Z; echo ${#text} >&2; exit 7"


def test_commands_run_in_the_accepted_guest_and_in_no_refused_one(tmp_path: Path) -> None:
    image = cache_folder() / "image"
    if not (image / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    world = World(tmp_path, image)
    try:
        _scenario(world)
    finally:
        world.run("cvm", "stop", "guest", want=None)
        world.close()


def _scenario(world: World) -> None:
    port, admin = free_port(), free_port()
    emulator = [sys.executable, "-m", "attest.emulator", "--state", str(world.folder / "chip"), "--init"]
    made = subprocess.run(emulator, check=True, capture_output=True, text=True, cwd=world.folder)
    root = made.stdout.split("root ", 1)[1].split()[0]
    world.run("attest", "init", "service", "--policy", "demo", "--emulated-root", root,
              "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}")  # fmt: skip
    world.start("attest", "serve", "service/attest.toml", ready="ready https://")
    (world.folder / "disks").mkdir()
    world.run("cvm", "disk", "create", "disks/guest.img", "--size", "32MiB", "--resource", "default/guest/root",
              "--service", f"https://127.0.0.1:{admin}", "--ca", "service/ca.pem",
              "--operator-cert", "service/operator.pem", "--operator-key", "service/operator.key")  # fmt: skip
    plant(ensure_base(ImageOrder(reuse=True), lambda text: None), world.folder / "system",
          ("sh", "cat", "tr", "head", "sleep", "tty", "stty"))  # fmt: skip
    packed = world.run("cvm", "image", "root", "disks/system.img", "--content", "system", "--json").json()
    tree = {key: packed[key] for key in ("root_hash", "blocks")}
    enabling = world.run("cvm", "exec", "--new-key", "op.key").out
    backend = "passt" if which("passt") else "slirp"
    for file, name in (("vm", "guest"), ("intruder", "intruder")):
        text = VM.format(name=name, image=world.image, port=port, backend=backend, chip=world.folder / "chip", **tree)
        (world.folder / f"{file}.toml").write_text(text + enabling)
    world.run("cvm", "measure", "vm.toml", "-o", "ref.json")
    world.run("attest", "reference", "add", "ref.json", "--config", "service/attest.toml")
    _wants_this_vm_and_a_launch_on_record(world)
    _another_vm_of_the_image_gets_nothing(world)
    world.run("cvm", "launch", "vm.toml", "--detach")
    _wait_until_attested(world)
    kinds = [item["kind"] for item in _records(world)]
    assert kinds.index("launch") < kinds.index("release"), "the host's word came before the key went"

    def run(*command: str, want: int, stdin: bytes | None = None, key: str = "op.key") -> tuple[str, str]:
        done = world.run(
            "cvm", "exec", "guest", "--key", key, "--timeout", f"{PATIENCE:.0f}", "--", *command, want=want, stdin=stdin
        )
        return done.out, done.err

    assert run("sh", "-c", PROGRAM, want=7, stdin=b"said from outside") == ("SAID FROM OUTSIDE\n", "17\n")
    assert run("cat", "/etc/name", want=0) == ("the root\n", "")
    assert len(run("head", "-c", "3000000", "/dev/zero", want=0)[0]) == 3_000_000
    assert "No such file" in run("/usr/bin/python3", want=127)[1], "the agent's own initrd has one"
    assert run("sh", "-c", "kill -15 $$", want=143) == ("", "")
    done = world.run("cvm", "exec", "guest", "--key", "op.key", "--timeout", "2", "--", "sleep", "99", want=124)
    assert "ended after 2 s" in done.err

    assert _on_a_terminal(world) == "terminal /dev/pts/0 33 99 vt220\r\n"

    # An operator whom the measured command line does not name.
    world.run("cvm", "exec", "--new-key", "other.key")
    assert "does not have this key" in run("/bin/true", want=10, key="other.key")[1]
    _moves(world)
    assert "is moved" in run("/bin/true", want=10)[1]


def _on_a_terminal(world: World) -> str:
    """What a command on a terminal sees of it; nothing is shown twice, for this terminal is raw meanwhile."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    program = "echo terminal $(tty) $(stty size) $TERM"
    argv = ("exec", "guest", "--key", "op.key", "-t", "--", "sh", "-c", program)
    done = subprocess.run(
        [sys.executable, "-m", "launcher", *argv], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, check=False,
        env={**world.environment(), "TERM": "vt220"}, cwd=world.folder, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    shown = os.read(ours, 4096).decode()
    os.close(theirs)
    os.close(ours)
    return shown


def _another_vm_of_the_image_gets_nothing(world: World) -> None:
    """It has the other's disk and measures the same: only its init-data, to which its launch is bound, differs."""
    plans = [world.run("cvm", "plan", f"{name}.toml", "--json").json() for name in ("vm", "intruder")]
    assert plans[0]["launch_digest"] == plans[1]["launch_digest"]
    assert [plan["init_data"]["vm"] for plan in plans] == ["guest", "intruder"]
    assert plans[0]["init_data"]["digest"] != plans[1]["init_data"]["digest"] == plans[1]["init_data"]["value"]
    result = world.run("cvm", "launch", "intruder.toml", "--json", want=7).json()
    assert "attested" in result["seconds"] and "unlocked" not in result["seconds"]
    refused = world.run("cvm", "exec", "intruder", "--key", "op.key", "--", "/bin/true", want=10)
    assert "is refused" in refused.err and "vm" in refused.err
    entries = world.run("cvm", "ledger", "intruder", "--json").json()["entries"]
    assert entries[0]["init_data_digest"] == plans[1]["init_data"]["digest"]
    assert f"init-data {entries[0]['init_data_digest'][:16]}" in world.run("cvm", "ledger", "intruder").out
    (decision,) = [item for item in _records(world) if item["kind"] == "decision"]
    shown = world.run("attest", "audit", "show", str(decision["number"]), "--json", *CONFIG).json()
    assert shown["body"]["binding"]["init_data_digest"] == plans[1]["init_data"]["digest"]
    (denied,) = [item for item in _records(world) if item["kind"].startswith("release")]
    assert (denied["kind"], denied["outcome"]) == ("release-refused", "denied")


def _wants_this_vm_and_a_launch_on_record(world: World) -> None:
    """The disk's key goes only to the VM of that name, and to a measurement that this host said it launched; nobody
    carries what it says.
    """
    (world.folder / "host.pem").write_text(world.run("cvm", "ledger", "--host-key").out)
    world.run("attest", "host", "add", "h1", "host.pem", "--config", "service/attest.toml")
    (world.folder / "wanted.toml").write_text('vm = ["guest"]\nlaunch_recorded = {within_minutes = 30, by = ["h1"]}')
    world.run("attest", "key", "conditions", "default/guest/root", "wanted.toml", "--config", "service/attest.toml")


def _records(world: World) -> list[dict[str, Any]]:
    listed = world.run("attest", "audit", "list", "--json", "--config", "service/attest.toml").json()
    records: list[dict[str, Any]] = listed["records"]
    return records


def _moves(world: World) -> None:
    """Its disk goes along; there it attests again, and the service records a second release under the same policy."""
    here, there = World(world.folder, world.image), World(world.folder / "there", world.image)
    there.folder.mkdir()
    there.start("cvm", "receive", f"unix:{there.folder}/in.sock", "--into", str(there.folder), ready="waiting at")
    try:
        moved = here.run("cvm", "move", "guest", f"unix:{there.folder}/in.sock")
        assert "and attested there" in moved.out, moved
        (row,) = there.run("cvm", "ps", "--json").json()["vms"]
        assert (row["attested"], row["config"]) == (True, str(there.folder / "vm.toml"))
        assert "it starts on one host" in here.run("cvm", "launch", "vm.toml", want=10).err
        assert (there.folder / "disks/guest.img").stat().st_size == (here.folder / "disks/guest.img").stat().st_size
        assert [item["outcome"] for item in _records(here) if item["kind"] == "release"] == ["released", "released"]
    finally:
        there.run("cvm", "stop", "guest", "--force", want=None)
        there.close()


def _wait_until_attested(world: World) -> None:
    def attested() -> bool:
        (row,) = (item for item in world.run("cvm", "ps", "--json").json()["vms"] if item["name"] == "guest")
        assert row["state"] not in ("refused", "failed", "stopped"), json.dumps(row)
        return bool(row["attested"] and row["state"] == "running")

    until(attested, "the guest has attested")

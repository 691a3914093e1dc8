"""``make demo``: the main job end to end, narrated, and checked.

A VM with an encrypted disk boots, proves what it is to the service, gets its disk key, reads its disk. Then the same VM,
changed in three ways, gets nothing. Exit code 0 only if all of that happened.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launcher.io.cachedir import cache_folder
from tests.e2e.replay import chip, replay_refusals
from tests.e2e.world import Done, StepFailed, World

MESSAGE = "hello from inside"
VM = """\
schema = 1
name = "{name}"
platform = "emulated-snp"
memory = "768MiB"

[cpu]
count = 2
model = "EPYC-v4"

[boot]
firmware = "auto"
kernel = "{kernel}"
initrd = "{initrd}"
cmdline = "{cmdline}"

[[disk]]
path = "demo.img"
encrypted = {{ resource = "default/demo/root", name = "root" }}

[[net]]
kind = "user"

[emulator]
state = "chip"

[guest]
run = "/hello"
poweroff = true

[attestation]
service = "https://127.0.0.1:{port}"
ca = "service/ca.pem"
"""


class Narrator:
    """Numbered steps on standard output, as a person reads them; with ``quiet`` nothing but the record is kept."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.number = 0
        self.start = time.monotonic()
        self.record: dict[str, Any] = {"schema": "cvm.demo/1", "steps": {}}

    def title(self, text: str) -> None:
        """The first line."""
        self._print(text)

    def step(self, word: str, *lines: str, **facts: Any) -> None:
        """One numbered step: a word and its lines."""
        self.number += 1
        self._print(f"{self.number:2d} {word:<11} {lines[0]}")
        for line in lines[1:]:
            self._print(f"   {'':<11} {line}")
        self.record["steps"][word] = facts

    def more(self, word: str, *lines: str, **facts: Any) -> None:
        """A continuation of the step before."""
        self._print(f"   {word:<11} {lines[0]}")
        for line in lines[1:]:
            self._print(f"   {'':<11} {line}")
        self.record["steps"].setdefault("refusals", {})[facts.pop("key")] = facts

    def _print(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)


def short(digest: str) -> str:
    """Enough of a digest to recognise it."""
    return f"{digest[:4]}…{digest[-4:]}"


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """The steps, in order. Each raises :class:`StepFailed` when something else happened than it claims."""

    def __init__(self, world: World, narrator: Narrator) -> None:
        self.world = world
        self.tell = narrator
        self.port, self.admin_port = free_port(), free_port()
        self.digest = ""
        self.firmware = Path()
        self.manifest: dict[str, Any] = json.loads((world.image / "manifest.json").read_text())
        self.chip = world.folder / "chip"

    def tools(self) -> None:
        """Which QEMU, firmware and kernel are used."""
        tools = self.world.run("cvm", "image", "toolchain", "--json").json()
        self.firmware = Path(tools["firmware"]) / "OVMF.amdsev.fd"
        digest = hashlib.sha256(self.firmware.read_bytes()).hexdigest()
        self.tell.step(
            "tools",
            f"qemu {tools['qemu']} ({tools['source']}) · {self.firmware.name} sha256:{digest[:8]}… · "
            f"kernel {self.manifest['kernel']['release']}",
            qemu=tools["qemu"], firmware_sha256=digest, kernel=self.manifest["kernel"],
        )  # fmt: skip
        self.tell.step(
            "image",
            f"initrd {self.manifest['initrd']['size'] / 1e6:.1f} MB, reproducible · "
            f"{len(self.manifest['inputs'])} inputs listed by hash",
            initrd=self.manifest["initrd"],
        )

    def service(self) -> None:
        """A service with its own authority, the emulated chip's root named in its policy."""
        done = subprocess.run(
            [sys.executable, "-m", "attest.emulator", "--state", str(self.chip), "--init"],
            check=True, capture_output=True, text=True, cwd=self.world.folder,
        )  # fmt: skip
        root = done.stdout.split("root ", 1)[1].split()[0]
        self.world.run(
            "attest", "init", "service", "--policy", "demo", "--emulated-root", root,
            "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}",
        )  # fmt: skip
        self.world.start("attest", "serve", "service/attest.toml", ready="ready https://")
        self.tell.step(
            "service",
            f"https://127.0.0.1:{self.port} · SQLite · policy demo · trusts only the emulated root {short(root)}",
        )

    def disk(self) -> None:
        """A disk whose key only the service keeps."""
        content = self.world.folder / "content"
        content.mkdir()
        (content / "message").write_text(MESSAGE + "\n")
        payload = content / "hello"
        payload.write_text("#!/bin/sh\ncat message\n")
        payload.chmod(0o755)
        self.world.run(
            "cvm", "disk", "create", "demo.img", "--size", "64MiB", "--resource", "default/demo/root",
            "--service", f"https://127.0.0.1:{self.admin_port}", "--ca", "service/ca.pem",
            "--operator-cert", "service/operator.pem", "--operator-key", "service/operator.key", "--content", "content",
        )  # fmt: skip
        if MESSAGE.encode() in (self.world.folder / "demo.img").read_bytes():
            raise StepFailed("the disk image holds its contents in the clear")
        self.tell.step("disk", "64 MiB LUKS2, key kbs:///default/demo/root never leaves the service unwrapped")

    def measure(self) -> None:
        """The launch digest, known before anything starts."""
        self.write_vm("demo")
        measured = self.world.run("cvm", "measure", "demo.toml", "-o", "demo.ref.json", "--json").json()
        self.digest = measured["launch_digest"]
        self.world.run("attest", "reference", "add", "demo.ref.json", "--config", "service/attest.toml")
        self.tell.step(
            "measure",
            f"launch digest {short(self.digest)} (emulated SEV-SNP, 2 vCPU EPYC-v4), known before anything starts",
            launch_digest=self.digest,
        )

    def write_vm(self, name: str, *, cmdline: str = "console=ttyS0 quiet", initrd: Path | None = None) -> str:
        """A VM file beside the others; returns its file name."""
        image = self.world.image
        text = VM.format(
            name=name,
            kernel=image / self.manifest["kernel"]["path"],
            initrd=initrd or image / self.manifest["initrd"]["path"],
            cmdline=cmdline,
            port=self.port,
        )
        (self.world.folder / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def launch(self) -> None:
        """The good VM."""
        result = self.world.run("cvm", "launch", "demo.toml", "--json").json()
        if MESSAGE not in result.get("payload_output", ""):
            raise StepFailed(f"the guest did not read its disk: {json.dumps(result)[:2000]}")
        decision = self.last_decision()
        if decision["verdict"] != "affirming" or decision["launch_digest"] != self.digest:
            raise StepFailed(f"the service recorded another decision: {json.dumps(decision)[:2000]}")
        seconds = result["seconds"]
        self.tell.step(
            "launch",
            f"guest up in {seconds['booted']:.1f} s · attested: {decision['summary']}",
            f'key released · disk unlocked · guest read from its encrypted disk: "{MESSAGE}"',
            **result,
        )

    def last_decision(self) -> Any:
        """The newest decision in the service's records."""
        found = self.world.run("attest", "audit", "list", "--json", "--config", "service/attest.toml").json()
        decisions = [record for record in found["records"] if record["kind"] == "decision"]
        if not decisions:
            raise StepFailed("the service recorded no decision")
        return decisions[-1]

    def releases(self) -> int:
        """How many keys have left so far."""
        found = self.world.run("attest", "audit", "list", "--json", "--config", "service/attest.toml").json()
        return sum(record["kind"] == "release" for record in found["records"])

    def tampered_command_line(self) -> None:
        """One byte of the command line differs from the hash table: the firmware refuses."""
        before = self.releases()
        shutil.copyfile(self.world.folder / "vms" / "demo" / "hashes.bin", self.world.folder / "approved.bin")
        name = self.write_vm("demo-cmdline", cmdline="console=ttyS0 quieT")
        done = self.world.run("cvm", "launch", name, "--json", "--hash-table", "approved.bin", want=9)
        result = done.json()
        booted = [event for event in result["events"] if event["event"] == "booted"]
        if self.releases() != before or booted or "attested" in result["seconds"]:
            raise StepFailed("a VM with another command line was started")
        self.tell.step("tamper", "one byte of the command line changed, hash table kept", result["reason"])
        self.tell.record["steps"]["refusals"] = {"cmdline": {"reason": result["reason"], "code": result.get("code")}}

    def tampered_initrd(self) -> None:
        """Another initrd with a hash table that matches it: the digest differs, the service refuses."""
        before = self.releases()
        changed = self.world.folder / "changed-initrd"
        shutil.copyfile(self.world.image / self.manifest["initrd"]["path"], changed)
        with changed.open("ab") as file:
            file.write(bytes(512))  # zero padding after an initramfs is legal: it boots, and it is another initrd
        name = self.write_vm("demo-initrd", initrd=changed)
        done = self.world.run("cvm", "launch", name, "--json", want=7)
        result = done.json()
        decision = self.last_decision()
        if self.releases() != before or decision["verdict"] == "affirming":
            raise StepFailed("a VM with another initrd got a key")
        self.world.run("cvm", "measure", name, "-o", "changed.ref.json")
        explained = self.world.run(
            "attest", "reference", "explain", "--decision", str(decision["number"]), "--candidate", "changed.ref.json",
            "--json", "--config", "service/attest.toml",
        ).json()  # fmt: skip
        if explained["differs"] != ["initrd"]:
            raise StepFailed(f"the explanation names {explained['differs']}, want the initrd")
        self.tell.more(
            "tamper", "initrd changed and hash table recomputed to match → digest differs → refused (403)",
            f"measurement: expected {short(self.digest)}, got {short(decision['launch_digest'])}",
            f"explained: {explained['text']}", key="initrd", result=result["reason"], explained=explained,
        )  # fmt: skip

    def replay(self) -> None:
        """A request that was good once is sent again."""
        before = self.releases()
        folder = self.world.folder
        with chip(self.chip, self.firmware, folder / "approved.bin", vcpus=2, cpu_model="EPYC-v4") as port:
            found = replay_refusals(port, self.port, folder / "service" / "ca.pem")
        if self.releases() != before:
            raise StepFailed("a replayed request got a key")
        lines = [f"{attempt} → {answer}" for attempt, answer in found.items()]
        self.tell.more("tamper", "a good request is replayed", *lines, key="replay", refusals=found)

    def audit(self) -> None:
        """The records are complete and unaltered."""
        done: Done = self.world.run("attest", "audit", "verify", "--json", "--config", "service/attest.toml")
        checked = done.json()
        self.tell.step(
            "audit",
            f"{checked['records']} records, chain unbroken to {short(checked['head'])}; "
            f"{checked['repeated']} decisions made again from their evidence, same outcome",
            **checked,
        )


def run(demo: Demo) -> None:
    """All steps in order."""
    steps: tuple[Callable[[], None], ...] = (
        demo.tools, demo.service, demo.disk, demo.measure, demo.launch, demo.tampered_command_line,
        demo.tampered_initrd, demo.replay, demo.audit,
    )  # fmt: skip
    for step in steps:
        step()


def main() -> int:
    """0 when the good VM read its disk and every tampered one got nothing, 1 otherwise, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON record instead of the story")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    args = parser.parse_args()
    narrator = Narrator(quiet=args.json)
    narrator.title(
        "cvm demo — a protected VM on this machine. No TEE here: the chip is emulated, everything else is real."
    )
    folder = Path(tempfile.mkdtemp(prefix="cvm-demo-"))
    world = World(folder, cache_folder() / "image")
    code = 1
    try:
        run(Demo(world, narrator))
        code = 0
    except StepFailed as exc:
        print(f"demo: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    finally:
        world.close()
        if code == 0 and not args.keep:
            shutil.rmtree(folder)
        else:
            print(f"demo: the folder of this run is {folder}", file=sys.stderr)
    seconds = time.monotonic() - narrator.start
    narrator.record |= {"ok": code == 0, "seconds": round(seconds, 1)}
    if args.json:
        print(json.dumps(narrator.record, indent=2))
    elif code == 0:
        print(f"done        the good VM read its disk, every tampered one got nothing · {seconds:.0f} s")
    return code


if __name__ == "__main__":
    raise SystemExit(main())

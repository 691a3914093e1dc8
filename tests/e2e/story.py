"""What the demos of all platforms share: a narrator, a service, a disk, a good VM, the records.

Each step is done through the two programs' command lines and raises :class:`StepFailed` when something else happened
than it claims.
"""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.world import Done, StepFailed, World

MESSAGE = "hello from inside"
VM = """\
schema = 1
name = "{name}"
platform = "{platform}"
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

[init_data]
service = "demo"

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
        self._lines(f"{self.number:2d} {word:<11}", lines)
        self.record["steps"][word] = facts

    def refusal(self, key: str, *lines: str, **facts: Any) -> None:
        """Something tampered with, and what it got. All of them are one step."""
        refusals = self.record["steps"].setdefault("refusals", {})
        if not refusals:
            self.number += 1
        self._lines(f"{'' if refusals else self.number:2} {'tamper':<11}", lines)
        refusals[key] = facts

    def _lines(self, head: str, lines: tuple[str, ...]) -> None:
        self._print(f"{head} {lines[0]}")
        for line in lines[1:]:
            self._print(f"{'':<14} {line}")

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


class Demo(ABC):
    """The steps that every platform has."""

    platform = ""
    firmware_name = ""
    make_platform: tuple[str, ...] = ()
    """Arguments with which the emulator only makes its keys, below ``--state``."""
    service_options: tuple[str, ...] = ()

    def __init__(self, world: World, narrator: Narrator) -> None:
        self.world = world
        self.tell = narrator
        self.port, self.admin_port, self.dashboard_port = free_port(), free_port(), free_port()
        self.digest = ""
        self.firmware = Path()
        self.manifest: dict[str, Any] = json.loads((world.image / "manifest.json").read_text())
        self.chip = world.folder / "chip"

    def tools(self) -> None:
        """Which QEMU, firmware and kernel are used."""
        tools = self.world.run("cvm", "image", "toolchain", "--json").json()
        self.firmware = Path(tools["firmware"]) / self.firmware_name
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
        """A service with its own authority, the emulated platform's root named in its policy."""
        done = subprocess.run(
            [sys.executable, "-m", "attest.emulator", *self.make_platform, "--state", str(self.chip), "--init"],
            check=True, capture_output=True, text=True, cwd=self.world.folder,
        )  # fmt: skip
        root = done.stdout.split("root ", 1)[1].split()[0]
        self.world.run(
            "attest", "init", "service", "--policy", "demo", "--emulated-root", root,
            "--listen", f"127.0.0.1:{self.port}", "--admin-listen", f"127.0.0.1:{self.admin_port}",
            "--dashboard", f"127.0.0.1:{self.dashboard_port}", "--dashboard-plain",
            *self.service_options,
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
        """What the guest will measure as, known before anything starts."""
        self.write_vm("demo")
        measured = self.world.run("cvm", "measure", "demo.toml", "-o", "demo.ref.json", "--json").json()
        self.digest = measured["launch_digest"]
        self.world.run("attest", "reference", "add", "demo.ref.json", "--config", "service/attest.toml")
        self.tell.step(
            "measure", f"{self.measured_words(measured)}, known before anything starts", launch_digest=self.digest
        )

    @abstractmethod
    def measured_words(self, measured: dict[str, Any]) -> str:
        """What was predicted, in words."""

    @abstractmethod
    def tampering(self) -> tuple[Callable[[], None], ...]:
        """What is tampered with, one after the other; each gets nothing."""

    def steps(self) -> tuple[Callable[[], None], ...]:
        """The whole demo, in order."""
        before = (self.tools, self.service, self.disk, self.measure, self.launch)
        return (*before, *self.tampering(), self.audit, self.dashboard)

    def write_vm(
        self,
        name: str,
        *,
        cmdline: str = "console=ttyS0 quiet",
        initrd: Path | None = None,
        kernel: Path | None = None,
    ) -> str:
        """A VM file beside the others; returns its file name."""
        image = self.world.image
        text = VM.format(
            name=name,
            platform=self.platform,
            kernel=kernel or image / self.manifest["kernel"]["path"],
            initrd=initrd or image / self.manifest["initrd"]["path"],
            cmdline=cmdline,
            port=self.port,
        )
        (self.world.folder / f"{name}.toml").write_text(text)
        return f"{name}.toml"

    def other_initrd(self) -> Path:
        """An initrd that works as well. Zero padding after an initramfs is legal: it boots, and it is another one."""
        changed = self.world.folder / "changed-initrd"
        changed.write_bytes((self.world.image / self.manifest["initrd"]["path"]).read_bytes() + bytes(512))
        return changed

    def launch(self) -> None:
        """The good VM."""
        result = self.world.run("cvm", "launch", "demo.toml", "--json").json()
        if MESSAGE not in result.get("payload_output", ""):
            raise StepFailed(f"the guest did not read its disk: {json.dumps(result)[:2000]}")
        decision = self.last_decision()
        if decision["verdict"] != "affirming" or decision["launch_digest"] != self.digest:
            raise StepFailed(f"the service recorded another decision: {json.dumps(decision)[:2000]}")
        shown = self.world.run(
            "attest", "audit", "show", str(decision["number"]), "--json", "--config", "service/attest.toml"
        ).json()  # fmt: skip
        planned = self.world.run("cvm", "plan", "demo.toml", "--json").json()["init_data"]
        if shown["body"]["binding"]["init_data_digest"] != planned["digest"]:
            raise StepFailed("the decision does not rest on the init-data that was planned")
        seconds = result["seconds"]
        self.tell.step(
            "launch",
            f"guest up in {seconds['booted']:.1f} s · attested: {decision['summary']}",
            f'key released · disk unlocked · guest read from its encrypted disk: "{MESSAGE}"',
            f"the service knows it as VM {planned['vm']} by init-data {short(planned['digest'])}, "
            f"which {planned['field'].upper()} is bound to",
            **result, checks=shown["body"]["decision"]["checks"], init_data=planned,
        )  # fmt: skip

    def last_decision(self) -> dict[str, Any]:
        """The newest decision in the service's records."""
        decisions = [record for record in self.records() if record["kind"] == "decision"]
        if not decisions:
            raise StepFailed("the service recorded no decision")
        return decisions[-1]

    def releases(self) -> int:
        """How many keys have left so far."""
        return sum(record["kind"] == "release" for record in self.records())

    def audit(self) -> None:
        """The records are complete and unaltered."""
        done: Done = self.world.run("attest", "audit", "verify", "--json", "--config", "service/attest.toml")
        checked = done.json()
        self.tell.step(
            "audit",
            " · ".join(f"{item['number']} {item['kind']} {item['outcome']}" for item in self.records()),
            f"{checked['records']} records, chain unbroken to {short(checked['head'])}; "
            f"{checked['repeated']} decisions made again from their evidence, same outcome",
            **checked,
        )

    def dashboard(self) -> None:
        """The pages say what the records say, and have a proof of the decision that released the key."""
        self.world.run("attest", "audit", "checkpoint", "--config", "service/attest.toml")
        url = f"http://127.0.0.1:{self.dashboard_port}"
        totals = json.loads(self.fetch(f"{url}/overview.json"))["decisions_by_day"]["totals"]
        decisions = [record for record in self.records() if record["kind"] == "decision"]
        accepted = [record for record in decisions if record["verdict"] == "affirming"]
        if sum(totals.values()) != len(decisions) or totals["accepted"] != len(accepted):
            raise StepFailed(f"the dashboard counts {totals}, the log has {len(decisions)} decisions")
        proof = self.world.folder / "proof.json"
        proof.write_bytes(self.fetch(f"{url}/records/{accepted[0]['number']}/proof"))
        self.world.run("attest", "audit", "verify", "proof.json", "--log-key", "service/log.pub")
        self.tell.step(
            "dashboard",
            f"{url} · read-only, no key in its process · proof of decision {accepted[0]['number']} downloaded and verified",
            url=url,
        )

    def fetch(self, url: str) -> bytes:
        """What the dashboard answers."""
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return bytes(answer.read())
        except OSError as exc:
            raise StepFailed(f"{url}: {exc}") from None

    def records(self) -> list[dict[str, Any]]:
        """The service's records, oldest first."""
        found = self.world.run("attest", "audit", "list", "--json", "--config", "service/attest.toml").json()
        records: list[dict[str, Any]] = found["records"]
        return records

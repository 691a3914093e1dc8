"""The demo of SEV-SNP: what the firmware refuses, what the service refuses, what a replay gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from tests.e2e.replay import chip, replay_refusals
from tests.e2e.story import Demo, short
from tests.e2e.world import StepFailed


class SnpDemo(Demo):
    """A VM whose launch digest an emulated chip computed."""

    platform = "emulated-snp"
    firmware_name = "OVMF.amdsev.fd"

    def measured_words(self, measured: dict[str, Any]) -> str:
        """The launch digest."""
        return f"launch digest {short(measured['launch_digest'])} (emulated SEV-SNP, 2 vCPU EPYC-v4)"

    def tampering(self) -> tuple[Callable[[], None], ...]:
        """Two files and the protocol."""
        return self.tampered_command_line, self.tampered_initrd, self.replay

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
        self.tell.refusal(
            "cmdline", "one byte of the command line changed, hash table kept", result["reason"],
            reason=result["reason"], code=result.get("code"),
        )  # fmt: skip

    def tampered_initrd(self) -> None:
        """Another initrd with a hash table that matches it: the digest differs, the service refuses."""
        before = self.releases()
        name = self.write_vm("demo-initrd", initrd=self.other_initrd())
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
        self.tell.refusal(
            "initrd", "initrd changed and hash table recomputed to match → digest differs → refused (403)",
            f"measurement: expected {short(self.digest)}, got {short(decision['launch_digest'])}",
            f"explained: {explained['text']}", result=result["reason"], explained=explained,
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
        self.tell.refusal("replay", "a good request is replayed", *lines, refusals=found)

"""The demo of TDX: real firmware measures into a TPM, an emulated platform signs it, and every change is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.e2e.story import Demo, short
from tests.e2e.world import StepFailed

_UNUSED = 0x20
"""A byte of the kernel's DOS header that nothing reads: the kernel boots, its Authenticode hash is another."""


class TdxDemo(Demo):
    """A VM whose registers are what its TPM was seen to measure."""

    platform = "emulated-tdx"
    firmware_name = "OVMF.fd"
    make_platform = ("td",)
    service_options = ("--collateral", "chip/collateral")

    def measured_words(self, measured: dict[str, Any]) -> str:
        """MRTD and the registers."""
        rtmrs = " · ".join(f"RTMR{index} {short(measured['rtmr'][index])}" for index in range(3))
        return f"MRTD {short(measured['mrtd'])} · {rtmrs} (emulated TDX, 2 vCPUs)"

    def tampering(self) -> tuple[Callable[[], None], ...]:
        """Three files: the firmware starts each of them, the service refuses each of them."""
        return self.tampered_kernel, self.tampered_command_line, self.tampered_initrd

    def tampered_kernel(self) -> None:
        """One byte of the kernel's file."""
        kernel = bytearray((self.world.image / self.manifest["kernel"]["path"]).read_bytes())
        kernel[_UNUSED] ^= 1
        changed = self.world.folder / "changed-kernel"
        changed.write_bytes(kernel)
        self._refused("kernel", "one byte of the kernel changed", 1, "application", kernel=changed)

    def tampered_command_line(self) -> None:
        """One byte of the command line."""
        changed = "console=ttyS0 quieT"
        self._refused("cmdline", "one byte of the command line changed", 2, "load-options", cmdline=changed)

    def tampered_initrd(self) -> None:
        """Another initrd."""
        self._refused("initrd", "initrd changed", 2, "initrd", initrd=self.other_initrd())

    def _refused(self, key: str, what: str, register: int, event: str, **changed: Any) -> None:
        """Launch a changed VM: it boots and gets no key, and the service names the one event that differs."""
        before = self.releases()
        result = self.world.run("cvm", "launch", self.write_vm(f"demo-{key}", **changed), "--json", want=7).json()
        seconds = result["seconds"]
        if self.releases() != before or "booted" not in seconds or "unlocked" in seconds:
            raise StepFailed(f"{what}: the VM did not boot, or got a key")
        number = self.last_decision()["number"]
        explained = self.world.run(
            "attest", "reference", "explain", "--decision", str(number), "--json", "--config", "service/attest.toml"
        ).json()  # fmt: skip
        if (explained["outcome"], explained["registers"], explained["differs"]) != ("explained", [register], [event]):
            raise StepFailed(f"{what}: explained as {explained['text']}, want {event} in RTMR{register}")
        self.tell.refusal(
            key, f"{what} → it boots, RTMR{register} differs → refused (403)",
            f"explained (decision {number}): {explained['text']}", result=result["reason"], explained=explained,
        )  # fmt: skip

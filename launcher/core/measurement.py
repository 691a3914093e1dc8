"""What has to be known to compute a launch digest, before any file is opened. On the start-up path: no imports."""

from __future__ import annotations


class MeasureInputs:
    """The inputs of one launch digest, as the operator named them.

    ``platform`` is a value of `policy.vocab.Platform`; ``firmware``, ``kernel`` and ``initrd`` are paths; ``cmdline``
    is the complete kernel command line. ``vcpu_sig`` (CPUID 1 EAX) overrides the signature of ``cpu_model``; one of the
    two is given. ``vmm`` is a name of `ovmf.vmm.VMMS`.
    """

    __slots__ = (
        "cmdline", "cpu_model", "firmware", "guest_features", "initrd", "kernel", "name", "platform", "vcpu_sig",
        "vcpus", "vmm",
    )  # fmt: skip

    def __init__(self, firmware: str, *, vcpus: int, platform: str = "sev-snp", name: str = "launch") -> None:
        self.firmware = firmware
        self.vcpus = vcpus
        self.platform = platform
        self.name = name
        self.cpu_model: str | None = None
        self.vcpu_sig: int | None = None
        self.kernel: str | None = None
        self.initrd: str | None = None
        self.cmdline: str | None = None
        self.guest_features = 1
        self.vmm = "qemu"

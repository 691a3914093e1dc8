"""The options ``cvm measure`` and ``cvm explain`` share. On their start-up path, so argparse is not imported here."""

from __future__ import annotations

import sys

from launcher.core.measurement import MeasureInputs
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable

PLATFORMS = ("sev-snp", "tdx", "emulated-snp", "emulated-tdx", "none")
VMMS = ("qemu", "ec2", "gce", "krun", "qemu-zero-fpu", "gce-52bit", "ec2-zero-rdx")


class MeasureUsage(CvmError):
    """Options that contradict each other or are missing."""

    code = "usage"


class LaunchOptions:
    """The values of the shared options, ``None`` where not given; argparse's namespace has the same attributes."""

    platform: str | None = None
    firmware: str | None = None
    vcpus: int | None = None
    cpu_model: str | None = None
    vcpu_sig: int | None = None
    vcpu_family: int | None = None
    vcpu_model: int | None = None
    vcpu_stepping: int | None = None
    kernel: str | None = None
    initrd: str | None = None
    cmdline: str | None = None
    guest_features: int | None = None
    vmm: str | None = None
    memory: str | None = None


def hexadecimal(text: str) -> int:
    """An option's hexadecimal number, with or without 0x."""
    value = int(text, 16)
    if value < 0:
        raise ValueError(text)
    return value


def number(text: str) -> int:
    """An option's decimal number."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text)


class _Option:
    __slots__ = ("choices", "help", "metavar", "name", "type")

    def __init__(
        self,
        name: str,
        metavar: str,
        text: str,
        kind: Callable[[str], str | int] = str,
        choices: tuple[str, ...] | None = None,
    ) -> None:
        self.name, self.metavar, self.help, self.type, self.choices = name, metavar, text, kind, choices

    def read(self, text: str) -> str | int:
        """The value of ``text``; ``ValueError`` when it is none."""
        if self.choices is not None and text not in self.choices:
            raise ValueError(text)
        return self.type(text)


_OPTIONS = {
    "--" + option.name.replace("_", "-"): option
    for option in (
        _Option("platform", "P", f"{', '.join(PLATFORMS)} (default sev-snp)", choices=PLATFORMS),
        _Option("firmware", "F", 'OVMF image, or "auto" for the one cvm would launch with'),
        _Option("vcpus", "N", "number of vCPUs", number),
        _Option("cpu_model", "M", "QEMU CPU model, such as EPYC-v4 or EPYC-Milan"),
        _Option("vcpu_sig", "HEX", "CPUID 1 EAX, instead of the CPU model's", hexadecimal),
        _Option("vcpu_family", "N", "CPU family, combined as in -cpu family=N; with the next two", number),
        _Option("vcpu_model", "N", "CPU model number, combined", number),
        _Option("vcpu_stepping", "N", "CPU stepping", number),
        _Option("kernel", "K", "kernel for measured direct boot"),
        _Option("initrd", "I", "initrd; needs --kernel"),
        _Option("cmdline", "C", "kernel command line; needs --kernel"),
        _Option("guest_features", "HEX", "SEV_FEATURES the host sets (default 0x1)", hexadecimal),
        _Option("vmm", "V", f"what starts the VM: {', '.join(VMMS)} (default qemu)", choices=VMMS),
        _Option("memory", "SIZE", "such as 4GiB; part of a TD's RTMR0, of no SNP digest"),
    )
}


def add_measure_options(parser: ArgumentParser) -> None:
    """Every option that describes one launch."""
    group = parser.add_argument_group("instead of VM.toml")
    for flag, option in _OPTIONS.items():
        group.add_argument(
            flag, metavar=option.metavar, help=option.help, type=option.type, choices=option.choices, default=None
        )


def read_quickly(argv: list[str], into: LaunchOptions) -> bool:
    """Fill ``into`` when ``argv`` is nothing but correct ``--option value`` pairs; ``False`` leaves it to argparse.

    A fifth of the time of a whole ``cvm measure`` goes into loading and building an argument parser.
    """
    if len(argv) % 2 or not argv:
        return False
    for flag, text in zip(argv[::2], argv[1::2], strict=True):
        option = _OPTIONS.get(flag)
        if option is None or text.startswith("-"):
            return False
        try:
            setattr(into, option.name, option.read(text))
        except ValueError:
            return False
    return True


def inputs_from(args: LaunchOptions, vm_file: str | None) -> MeasureInputs:
    """The inputs the VM file or the options name; exactly one of the two forms."""
    if vm_file is None:
        return _from_options(args)
    given = options_given(args)
    if given:
        raise MeasureUsage(f"{given[0]}: not together with a VM file, which says it already")
    from launcher.service import measurement_inputs

    inputs: MeasureInputs = measurement_inputs(vm_file)
    return inputs


def options_given(args: LaunchOptions) -> list[str]:
    """The flags of the shared options that were given."""
    return [flag for flag, option in _OPTIONS.items() if getattr(args, option.name) is not None]


def _from_options(args: LaunchOptions) -> MeasureInputs:
    platform = args.platform or "sev-snp"
    if platform not in ("sev-snp", "emulated-snp"):
        return MeasureInputs(args.firmware or "", vcpus=args.vcpus or 1, platform=platform)
    vcpu_sig = signature_from(args)
    if args.firmware is None or args.vcpus is None or (args.cpu_model is None and vcpu_sig is None):
        raise MeasureUsage("want a VM file, or --firmware, --vcpus and --cpu-model (or --vcpu-sig)")
    inputs = MeasureInputs(firmware_from(args.firmware), vcpus=args.vcpus, platform=platform)
    inputs.cpu_model, inputs.vcpu_sig = args.cpu_model, vcpu_sig
    inputs.kernel, inputs.initrd, inputs.cmdline = args.kernel, args.initrd, args.cmdline
    inputs.guest_features = 1 if args.guest_features is None else args.guest_features
    inputs.vmm = args.vmm or "qemu"
    return inputs


def signature_from(args: LaunchOptions) -> int | None:
    """CPUID 1 EAX where the options give it as a number, or as family, model and stepping."""
    numbers = (args.vcpu_family, args.vcpu_model, args.vcpu_stepping)
    if numbers == (None, None, None):
        return args.vcpu_sig
    family, model, stepping = numbers
    if family is None or model is None or stepping is None or args.vcpu_sig is not None:
        raise MeasureUsage("want --vcpu-family, --vcpu-model and --vcpu-stepping together, or --vcpu-sig alone")
    from ovmf.vcpu import cpu_signature

    return cpu_signature(family, model, stepping)


def firmware_from(name: str) -> str:
    """The path of a firmware an option names."""
    return _firmware_of_toolchain() if name == "auto" else name


def _firmware_of_toolchain() -> str:
    from launcher.io.toolchain import find_toolchain

    return f"{find_toolchain().firmware_dir}/OVMF.amdsev.fd"


def write_out(text: str) -> None:
    """Results go to stdout."""
    sys.stdout.write(text)

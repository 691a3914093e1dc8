"""The options ``cvm measure`` and ``cvm explain`` share. On the start-up path of both."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace

from launcher.core.measurement import MeasureInputs
from policy.errors import CvmError

PLATFORMS = ("sev-snp", "tdx", "emulated-snp", "emulated-tdx", "none")
VMMS = ("qemu", "ec2", "gce", "qemu-zero-fpu", "gce-52bit")


class MeasureUsage(CvmError):
    """Options that contradict each other or are missing."""

    code = "usage"


def add_measure_options(parser: ArgumentParser) -> None:
    """Every option that describes one launch."""
    group = parser.add_argument_group("instead of VM.toml")
    group.add_argument("--platform", choices=PLATFORMS, default="sev-snp", help="default: sev-snp")
    group.add_argument("--firmware", metavar="F", help='OVMF image, or "auto" for the one cvm would launch with')
    group.add_argument("--vcpus", metavar="N", type=_count, help="number of vCPUs")
    group.add_argument("--cpu-model", metavar="M", help="QEMU CPU model, such as EPYC-v4 or EPYC-Milan")
    group.add_argument("--vcpu-sig", metavar="HEX", type=_hex, help="CPUID 1 EAX, instead of the CPU model's")
    group.add_argument("--kernel", metavar="K", help="kernel for measured direct boot")
    group.add_argument("--initrd", metavar="I", help="initrd; needs --kernel")
    group.add_argument("--cmdline", metavar="C", help="kernel command line; needs --kernel")
    group.add_argument("--guest-features", metavar="HEX", type=_hex, help="SEV_FEATURES the host sets (default 0x1)")
    group.add_argument("--vmm", choices=VMMS, help="what starts the VM (default qemu)")
    group.add_argument("--memory", metavar="SIZE", help="accepted for scripts; memory is no part of an SNP digest")


_FLAGS = ("firmware", "vcpus", "cpu_model", "vcpu_sig", "kernel", "initrd", "cmdline", "guest_features", "vmm")


def inputs_from(args: Namespace, vm_file: str | None) -> MeasureInputs:
    """The inputs the VM file or the options name; exactly one of the two forms."""
    given = [flag for flag in _FLAGS if getattr(args, flag) is not None]
    if vm_file is not None:
        if given:
            raise MeasureUsage(f"--{given[0].replace('_', '-')}: not together with a VM file, which says it already")
        from launcher.service import measurement_inputs

        return measurement_inputs(vm_file)
    return _from_options(args)


def _from_options(args: Namespace) -> MeasureInputs:
    if args.platform not in ("sev-snp", "emulated-snp"):
        return MeasureInputs(args.firmware or "", vcpus=args.vcpus or 1, platform=args.platform)
    missing = [option for option in ("firmware", "vcpus") if getattr(args, option) is None]
    if args.cpu_model is None and args.vcpu_sig is None:
        missing.append("cpu-model")
    if missing:
        raise MeasureUsage(f"missing: a VM file, or {', '.join('--' + option for option in missing)}")
    firmware = _firmware_of_toolchain() if args.firmware == "auto" else args.firmware
    inputs = MeasureInputs(firmware, vcpus=args.vcpus, platform=args.platform)
    inputs.cpu_model, inputs.vcpu_sig = args.cpu_model, args.vcpu_sig
    inputs.kernel, inputs.initrd, inputs.cmdline = args.kernel, args.initrd, args.cmdline
    inputs.guest_features = 1 if args.guest_features is None else args.guest_features
    inputs.vmm = args.vmm or "qemu"
    return inputs


def _firmware_of_toolchain() -> str:
    from launcher.io.toolchain import find_toolchain

    return str(find_toolchain().firmware_dir / "OVMF.amdsev.fd")


def write_out(text: str) -> None:
    """Results go to stdout."""
    sys.stdout.write(text)


def _hex(text: str) -> int:
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if value < 0:
        raise ArgumentTypeError(f"got {text[:40]!r}, want a hexadecimal number")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError(f"got {text[:40]!r}, want a number")
    return int(text)

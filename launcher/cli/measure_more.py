"""``cvm measure`` beyond the plain case: SVSM, SEV, SEV-ES and IGVM launches, the digest step by step, VMSA pages."""

from __future__ import annotations

import json
from pathlib import Path

from launcher.cli.measure_options import (
    MeasureUsage,
    firmware_from,
    inputs_from,
    number,
    options_given,
    signature_from,
    write_out,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import Any

    from launcher.cli.measure import MeasureOptions
    from launcher.core.measurement import MeasureInputs
    from launcher.io.measure_modes import Special
    from ovmf.steps import Step

MODES = ("snp", "svsm", "sev", "sev-es")


def add_more_arguments(parser: ArgumentParser) -> None:
    """The options only this module knows."""
    group = parser.add_argument_group("other launches, and a closer look")
    group.add_argument("--mode", metavar="M", choices=MODES, help=f"{', '.join(MODES)} (default snp)")
    group.add_argument("--svsm", metavar="FILE", help="SVSM binary, with --mode svsm and the variable store's size")
    size = group.add_mutually_exclusive_group()
    size.add_argument("--vars-size", metavar="N", type=number, help="size of OVMF's variable store in bytes")
    size.add_argument("--vars-file", metavar="FILE", help="the variable store, for its size")
    group.add_argument("--igvm", metavar="FILE", help="an IGVM file, which says all by itself")
    group.add_argument("--native-zero", action="store_true", help="its loader uses ZERO pages for pages without data")
    group.add_argument("--steps", action="store_true", help="print the digest after each section and vCPU")
    td = parser.add_argument_group("a TD (platform tdx, emulated-tdx)")
    td.add_argument("--events", action="store_true", help="list every event the RTMRs are made of")
    td.add_argument(
        "--order", metavar="O", choices=("single-pass", "two-pass"),
        help="how the VMM measures the firmware: single-pass (default), or two-pass as QEMU 8 with TDX patches did",
    )  # fmt: skip
    td.add_argument("--disk", metavar="IMAGE", help="a raw disk image to boot, instead of --kernel")
    td.add_argument("--boot-path", metavar="PATH", help="what the firmware starts from it (EFI/BOOT/BOOTX64.EFI)")
    td.add_argument(
        "--boot-variables", metavar="DIR",
        help="its boot options, for a disk: copies of BootOrder-* and Boot0000-* … of a guest's efivars",
    )  # fmt: skip
    td.add_argument(
        "--exit-failures", metavar="N", type=number,
        help="for a disk: how often ending boot services fails before it succeeds (see docs/operator.md)",
    )  # fmt: skip
    td.add_argument(
        "--processor-id", metavar="HEX",
        help="CPUID 1 EAX and EDX of the TD's processor, 16 digits as in memory: RTMR0 depends on it",
    )  # fmt: skip
    group.add_argument("--dump-vmsa", metavar="DIR", help="write the measured VMSA pages there: vmsa0.bin, vmsa1.bin …")


def run_more(args: MeasureOptions) -> int:
    """Print the digest and what belongs to it; 0. Errors are raised."""
    _check(args)
    if args.igvm is None and args.mode in (None, "snp"):
        return _closer_look(args)
    if args.vm is not None or args.steps:
        raise MeasureUsage("--igvm and --mode svsm, sev, sev-es: neither with a VM file nor with --steps")
    special = _measure(args)
    _dump(args, special.vmsa_pages)
    if args.output is not None:
        _write_reference(args, special)
    write_out(_json(special) if args.json else _text(special))
    return 0


def _check(args: MeasureOptions) -> None:
    """An option that would have no effect is a mistake about what is measured."""
    if args.mode != "svsm" and (args.svsm, args.vars_size, args.vars_file) != (None, None, None):
        raise MeasureUsage("--svsm, --vars-size, --vars-file: only with --mode svsm")
    if args.native_zero and args.igvm is None:
        raise MeasureUsage("--native-zero: only with --igvm")
    idle = options_given(args)
    if args.igvm is not None and (args.mode is not None or idle):
        raise MeasureUsage(f"--igvm: not together with {idle[0] if idle else '--mode'}: the file says it already")


def _measure(args: MeasureOptions) -> Special:
    from launcher.io import measure_modes

    if args.igvm is not None:
        return measure_modes.measure_igvm(args.igvm, native_zero=args.native_zero)
    if args.mode == "svsm":
        if args.svsm is None or (args.vars_size is None and args.vars_file is None):
            raise MeasureUsage("--mode svsm: want --svsm FILE and --vars-size N (or --vars-file FILE)")
        size = measure_modes.file_size(args.vars_file) if args.vars_file is not None else args.vars_size or 0
        return measure_modes.measure_svsm(_inputs(args), args.svsm, size)
    if args.mode == "sev":
        return measure_modes.measure_sev(_inputs(args, with_vcpus=False))
    return measure_modes.measure_sev_es(_inputs(args))


def _inputs(args: MeasureOptions, *, with_vcpus: bool = True) -> MeasureInputs:
    from launcher.core.measurement import MeasureInputs

    vcpu_sig = signature_from(args)
    if args.firmware is None or (with_vcpus and (args.vcpus is None or (args.cpu_model is None and vcpu_sig is None))):
        raise MeasureUsage("want --firmware, --vcpus and --cpu-model (or --vcpu-sig); --mode sev wants --firmware only")
    inputs = MeasureInputs(firmware_from(args.firmware), vcpus=args.vcpus or 1)
    inputs.cpu_model, inputs.vcpu_sig = args.cpu_model, vcpu_sig
    inputs.kernel, inputs.initrd, inputs.cmdline = args.kernel, args.initrd, args.cmdline
    inputs.guest_features = args.guest_features or 0
    inputs.vmm = args.vmm or "qemu"
    return inputs


def _closer_look(args: MeasureOptions) -> int:
    """The plain launch, step by step, with its VMSA pages."""
    from launcher.io.measurement import measure
    from ovmf.steps import launch_steps, vmsa_pages

    if args.output is not None:
        raise MeasureUsage("-o: not together with --steps, --dump-vmsa or --mode snp")
    measured = measure(inputs_from(args, args.vm))
    launch: dict[str, Any] = {
        "vcpu_sig": measured.vcpu_sig, "guest_features": measured.inputs.guest_features, "vmm": measured.inputs.vmm,
    }  # fmt: skip
    pages = vmsa_pages(measured.firmware, **launch)
    _dump(args, pages[: measured.inputs.vcpus])
    steps = launch_steps(measured.firmware, vcpus=measured.inputs.vcpus, hashes=measured.hashes, **launch)
    digest = measured.launch_digest.hex()
    if args.json:
        document = {"schema": "cvm.measure/1", "platform": measured.inputs.platform, "launch_digest": digest,
                    "steps": [_step(step) for step in steps]}  # fmt: skip
        write_out(json.dumps(document, indent=2) + "\n")
        return 0
    rows = [f"  0x{s.gpa:012x} {s.size:>9} {s.name:<32} {s.digest.hex()}" for s in steps] if args.steps else []
    write_out("\n".join([digest, *rows]) + "\n")
    return 0


def _step(step: Step) -> dict[str, Any]:
    return {"name": step.name, "gpa": step.gpa, "size": step.size, "digest": step.digest.hex()}


def _dump(args: MeasureOptions, pages: tuple[bytes, ...]) -> None:
    if args.dump_vmsa is None:
        return
    from launcher.cli.reference_file import write_file

    for index, page in enumerate(pages):
        write_file(Path(args.dump_vmsa, f"vmsa{index}.bin"), page)


def _write_reference(args: MeasureOptions, special: Special) -> None:
    from launcher.cli.reference_file import write_reference
    from policy.vocab import LaunchDigest

    if special.platform != "sev-snp":
        raise MeasureUsage(f"-o: reference values are of SEV-SNP launches, not of {special.platform}")
    write_reference(args.output or "", args.name, special.platform, LaunchDigest(special.digest), None)


def _text(special: Special) -> str:
    lines = [special.digest.hex(), f"  platform  {special.platform}, {special.mode}"]
    lines += [f"  {name:<9} sha256:{sha256} {path or '(none)'}" for name, path, sha256 in special.inputs]
    lines += [f"  {name:<9} {text}" for name, text in special.facts]
    return "\n".join(lines) + "\n"


def _json(special: Special) -> str:
    document: dict[str, Any] = {
        "schema": "cvm.measure/1",
        "platform": special.platform,
        "mode": special.mode,
        "launch_digest": special.digest.hex(),
        "inputs": [{"name": name, "path": path, "sha256": sha256} for name, path, sha256 in special.inputs],
        "facts": [{"name": name, "text": text} for name, text in special.facts],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

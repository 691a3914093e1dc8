"""``cvm measure``: the launch digest a VM will report, before it starts."""

from __future__ import annotations

from launcher.cli.measure_options import (
    LaunchOptions,
    MeasureUsage,
    add_measure_options,
    inputs_from,
    read_quickly,
    write_out,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from launcher.io.measurement import Measured

DESCRIPTION = "Compute the launch digest a VM will report. Starts nothing and needs no TEE."


_MORE = ("mode", "igvm", "svsm", "vars_size", "vars_file", "dump_vmsa")
_TD = ("order", "disk", "boot_path", "processor_id", "boot_variables", "exit_failures")
_TD_PLATFORMS = ("tdx", "emulated-tdx")


class MeasureOptions(LaunchOptions):
    """The verb's options, as argparse's namespace has them too."""

    vm: str | None = None
    output: str | None = None
    name: str | None = None
    json: bool = False
    mode: str | None = None
    svsm: str | None = None
    vars_size: int | None = None
    vars_file: str | None = None
    igvm: str | None = None
    native_zero: bool = False
    steps: bool = False
    dump_vmsa: str | None = None
    events: bool = False
    order: str | None = None
    disk: str | None = None
    boot_path: str | None = None
    processor_id: str | None = None
    boot_variables: str | None = None
    exit_failures: int | None = None


def quick(argv: list[str]) -> MeasureOptions | None:
    """The options of a plain measurement, read without argparse; ``None`` when they need a real parser."""
    options = MeasureOptions()
    options.json = argv[-1:] == ["--json"]
    return options if read_quickly(argv[:-1] if options.json else argv, options) else None


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("vm", metavar="VM.toml", nargs="?", help="the VM's file; or describe the launch with options")
    add_measure_options(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="also write a reference-value file for the service")
    parser.add_argument("--name", metavar="NAME", help="name of the reference value (default: of the VM or FILE)")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.measure/1)")
    from launcher.cli.measure_more import add_more_arguments

    add_more_arguments(parser)


def run(args: MeasureOptions) -> int:
    """Print the digest; 0. Errors are raised."""
    special = args.native_zero or any(getattr(args, name) is not None for name in _MORE)
    inputs = None if special else inputs_from(args, args.vm)
    if inputs is not None and inputs.platform in _TD_PLATFORMS:
        from launcher.cli.measure_td import run_td

        return run_td(args)
    idle = "events" if args.events else next((name for name in _TD if getattr(args, name) is not None), None)
    if idle is not None:
        raise MeasureUsage(f"--{idle.replace('_', '-')}: only for platform tdx or emulated-tdx")
    if inputs is None or args.steps:
        from launcher.cli.measure_more import run_more

        return run_more(args)
    from launcher.io.measurement import measure

    measured = measure(inputs)
    if args.output is not None:
        from launcher.cli.reference_file import write_reference

        name = args.name or (measured.inputs.name if args.vm else None)
        write_reference(args.output, name, measured.inputs.platform, measured.launch_digest, measured.recipe())
    write_out(_json(measured) if args.json else _text(measured))
    return 0


def _text(measured: Measured) -> str:
    from launcher.io.measurement import printable
    from ovmf.vcpu import describe_signature

    inputs = measured.inputs
    lines = [
        measured.launch_digest.hex(),
        f"  platform  {inputs.platform}, {inputs.vmm}, guest features 0x{inputs.guest_features:x}",
        f"  vCPUs     {inputs.vcpus} × {inputs.cpu_model or 'CPU'}, signature {describe_signature(measured.vcpu_sig)}",
    ]
    # what is measured, not what identifies a file: the firmware's file hash costs time and is in --json
    lines.append(f"  firmware  pages:{measured.firmware.ld.hex()} {printable(inputs.firmware)}")
    lines += [f"  {name:<9} sha256:{sha256} {path or '(none)'}" for name, path, sha256 in measured.boot_files()]
    return "\n".join(lines) + "\n"


def _json(measured: Measured) -> str:
    from json import dumps

    inputs = measured.inputs
    document = {
        "schema": "cvm.measure/1",
        "platform": inputs.platform,
        "launch_digest": measured.launch_digest.hex(),
        "vmm": inputs.vmm,
        "vcpus": inputs.vcpus,
        "vcpu_sig": f"0x{measured.vcpu_sig:x}",
        "guest_features": f"0x{inputs.guest_features:x}",
        "inputs": [{"name": name, "path": path, "sha256": sha256} for name, path, sha256 in measured.files()],
    }
    return dumps(document, indent=2, ensure_ascii=False) + "\n"

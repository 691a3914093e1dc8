"""``cvm measure`` for a TD: MRTD, the RTMRs that can be predicted, the events they are made of."""

from __future__ import annotations

import json
import os

from launcher.cli.measure_options import MeasureUsage, options_given, write_out
from launcher.cli.td_words import event_lines, event_members, td_lines, td_members
from launcher.config.parts import HOST_MODEL
from launcher.config.sizes import parse_size, show_size
from launcher.core.vm import Boot, Cpu, Disk, VmConfig
from launcher.io.measurement import printable
from launcher.io.td_measurement import TdChoices, TdMeasured
from launcher.service.td_measuring import measure_td_config, measure_td_file
from ovmf.td_boot import MAX_EXIT_FAILURES
from policy.reference_tdx import TWO_PASS
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.cli.measure import MeasureOptions

_SNP_ONLY = ("--vcpu-sig", "--vcpu-family", "--vcpu-model", "--vcpu-stepping", "--guest-features", "--vmm")


def run_td(args: MeasureOptions) -> int:
    """Print the registers; 0. Errors are raised."""
    measured = measured_td(args)
    if args.output is not None:
        from launcher.cli.reference_file import write_reference

        name = args.name or (measured.spec.name if args.vm else None)
        platform, registers = measured.spec.platform.value, measured.prediction.rtmrs
        write_reference(args.output, name, platform, measured.launch_digest, measured.recipe(), registers)
    events = args.events or args.steps
    write_out(_json(measured, events=events) if args.json else _text(measured, events=events))
    return 0


def measured_td(args: MeasureOptions) -> TdMeasured:
    """Measure what the options or the VM file describe."""
    default = TdChoices()
    choices = TdChoices(
        args.order or default.order, args.boot_path or default.path, _processor_id(args.processor_id),
        args.boot_variables, _exit_failures(args.exit_failures),
    )  # fmt: skip
    if args.vm is not None:
        given = [*options_given(args), *(["--disk"] if args.disk is not None else [])]
        if given:
            raise MeasureUsage(f"{given[0]}: not together with a VM file, which says it already")
        return measure_td_file(args.vm, choices)
    return measure_td_config(_config(args), args.cmdline, choices)


def _config(args: MeasureOptions) -> VmConfig:
    """The VM the options describe: the devices every VM has, no network, at most one disk."""
    platform = Platform(args.platform)
    idle = [flag for flag in options_given(args) if flag in _SNP_ONLY]
    if idle or (args.cpu_model is not None and platform is Platform.TDX):
        raise MeasureUsage(f"{idle[0] if idle else '--cpu-model'}: says nothing about a TD")
    if args.firmware is None or args.vcpus is None or args.memory is None:
        raise MeasureUsage("want a VM file, or --firmware, --vcpus and --memory")
    if (args.kernel is None) == (args.disk is None):
        raise MeasureUsage("want either --kernel or --disk: what the TD boots")
    if args.kernel is None and (args.initrd is not None or args.cmdline is not None):
        raise MeasureUsage("--initrd, --cmdline: only with --kernel")
    memory = parse_size(args.memory)
    if memory is None:
        raise MeasureUsage(f'--memory: got {args.memory[:40]!r}, want a size such as "4GiB"')
    model = HOST_MODEL if platform is Platform.TDX else args.cpu_model or Cpu().model
    firmware = args.firmware if args.firmware == "auto" else os.path.abspath(args.firmware)
    disks = () if args.disk is None else (Disk(os.path.abspath(args.disk), "disk0"),)
    boot = Boot(firmware, _absolute(args.kernel), _absolute(args.initrd), args.cmdline or "")
    return VmConfig("launch", platform, memory, cpu=Cpu(args.vcpus, model), boot=boot, disks=disks)


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _processor_id(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != 8:
        raise MeasureUsage("--processor-id: want 16 hexadecimal digits: CPUID 1 EAX and EDX, each little-endian")
    return data


def _exit_failures(count: int | None) -> int | None:
    if count is not None and count > MAX_EXIT_FAILURES:
        raise MeasureUsage(f"--exit-failures: got {count}, want at most {MAX_EXIT_FAILURES}")
    return count


def _text(measured: TdMeasured, *, events: bool) -> str:
    spec = measured.spec
    order = " (and a kernel header patched by QEMU before 10.1)" if measured.order == TWO_PASS else ""
    lines = [
        measured.launch_digest.hex(),
        f"  platform  {spec.platform.value}, {measured.order}{order}",
        f"  machine   {spec.vcpus} vCPUs, {show_size(spec.memory)}",
        *td_lines(measured),
        *(f"  {name:<9} sha256:{sha256} {path or '(none)'}" for name, path, sha256 in measured.inputs),
    ]
    if events:
        lines += ["events", *event_lines(measured.prediction.events)]
    return "\n".join(lines) + "\n"


def _json(measured: TdMeasured, *, events: bool) -> str:
    spec = measured.spec
    document = {
        "schema": "cvm.measure/1",
        "platform": spec.platform.value,
        "launch_digest": measured.launch_digest.hex(),
        **td_members(measured),
        "order": measured.order,
        "vcpus": spec.vcpus,
        "memory": spec.memory,
        "layout": list(measured.firmware.layout.words()),
        "inputs": [{"name": name, "path": printable(path), "sha256": sha256} for name, path, sha256 in measured.inputs],
    }
    if events:
        document["events"] = event_members(measured.prediction.events)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

"""``cvm throttle``: the limits of a running VM's disks and network."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace

from launcher.config.net_parts import parse_rate
from launcher.config.sizes import parse_size, show_size
from launcher.core.storage import LIMIT_NAMES, Throttle
from launcher.service.throttling import throttle_net, throttle_vm
from policy.errors import CvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTION = """Show or change how many operations and bytes per second a running VM's disks may have, or (--net) how
many bits its network. Changes hold until the VM ends; the next launch reads the VM file again."""
EPILOG = """example: cvm throttle web-1 --disk data --iops-total 500
         cvm throttle web-1 --group tenant-a --off --bps-write 10MiB --bps-write-burst 50MiB
         cvm throttle web-1 --net --rx-rate 200Mbit
exit status: 0 done, 5 limits that contradict each other, 10 no such VM, not up, or no limits to change"""


_DIRECTIONS = {"rx": "receives", "tx": "sends"}


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("name", metavar="VM", help="its name (cvm ps)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--disk", metavar="NAME", help="a disk with limits of its own, by its serial")
    whose.add_argument("--group", metavar="NAME", help="a [[throttle]] that disks share")
    whose.add_argument("--net", action="store_true", help="its network, where the VM file limits it")
    for name, what in _DIRECTIONS.items():
        parser.add_argument(f"--{name}-rate", metavar="RATE", help=f"of what it {what}, such as 100Mbit (with --net)")
        parser.add_argument(f"--{name}-burst", metavar="SIZE", help="so much at once, such as 128KiB (with --net)")
    parser.add_argument("--off", action="store_true", help="forget all limits first")
    for name in LIMIT_NAMES:
        kind = "SIZE" if name.startswith("bps") else "N"
        parser.add_argument(f"--{name}", metavar=kind, help=f"{_words(name)} per second; 0: no limit")
        parser.add_argument(f"--{name}-burst", metavar=kind, help="so many for a while")
        parser.add_argument(f"--{name}-burst-seconds", metavar="N", help="for how long")
    parser.add_argument("--iops-size", metavar="SIZE", help="a larger request counts as several; 0: as one")
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.throttle/1)")


def run(args: Namespace) -> int:
    """Change what was asked, show what holds; 0."""
    if args.net:
        return _net(args)
    groups = throttle_vm(args.name, _about(args))
    if args.json:
        sys.stdout.write(json.dumps({"schema": "cvm.throttle/1", "name": args.name, "groups": groups}, indent=2) + "\n")
    else:
        sys.stdout.write("".join(_line(item) for item in groups))
    return 0


def _net(args: Namespace) -> int:
    if _changes(args) or args.off:
        raise CvmError("cvm throttle --net: takes --rx-rate, --tx-rate and their bursts only", code="usage")
    answer = throttle_net(args.name, _net_changes(args))
    if args.json:
        document = {"schema": "cvm.throttle/1", "name": args.name, "net": answer.get("net")}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(f"{args.name}: {answer.get('said')}\n")
    return 0


def _net_changes(args: Namespace) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _DIRECTIONS:
        rate, burst = getattr(args, f"{name}_rate"), getattr(args, f"{name}_burst")
        bits, size = parse_rate(rate or ""), parse_size(burst or "")
        if rate is not None and bits is None:
            want = "want 64kbit to 400Gbit, such as 100Mbit"
            raise CvmError(f"--{name}-rate: got {rate[:40]!r}, {want}", code="usage")
        if burst is not None and (size is None or rate is None):
            raise CvmError(f"--{name}-burst: want a size such as 128KiB, beside --{name}-rate", code="usage")
        if bits is not None:
            found[name] = [bits, size]
    return found


def _about(args: Namespace) -> dict[str, object]:
    changes = _changes(args)
    if args.disk is None and args.group is None:
        if changes or args.off:
            raise CvmError("cvm throttle: whose limits? want --disk or --group", code="usage")
        return {}
    if not changes and not args.off:
        raise CvmError("cvm throttle: nothing to change: want a limit such as --iops-total 500, or --off", code="usage")
    name = f"limits-{args.disk}" if args.disk is not None else f"group-{args.group}"
    return {"object": name, "changes": changes, "off": args.off}


def _changes(args: Namespace) -> dict[str, int]:
    """Options as members of ThrottleLimits."""
    found: dict[str, int] = {}
    for name in LIMIT_NAMES:
        for suffix, member in (("", ""), ("-burst", "-max"), ("-burst-seconds", "-max-length")):
            option = f"{name}{suffix}"
            text = getattr(args, option.replace("-", "_"))
            if text is not None:
                size = name.startswith("bps") and not suffix.endswith("seconds")
                found[f"{name}{member}"] = _number(option, text, size=size)
    if args.iops_size is not None:
        found["iops-size"] = _number("iops-size", args.iops_size, size=True)
    return found


def _number(option: str, text: str, *, size: bool) -> int:
    value = parse_size(text) if size and text != "0" else int(text) if text.isascii() and text.isdigit() else None
    if value is None or len(text) > 18:
        want = "a size such as 10MiB, or 0" if size else "a whole number"
        raise CvmError(f"--{option} {text[:40]!r}: want {want}", code="usage")
    return value


def _line(group: dict[str, Any]) -> str:
    limits = Throttle().changed(group["limits"])
    parts = []
    for name, limit in zip(LIMIT_NAMES, limits.limits, strict=True):
        show = show_size if name.startswith("bps") else str
        if limit.rate:
            burst = f" (burst {show(limit.burst)} for {limit.seconds} s)" if limit.burst else ""
            parts.append(f"{name} {show(limit.rate)}{burst}")
    disks = ", ".join(group["disks"]) or "no disk"
    return f"{group['object']:<20} {', '.join(parts) or 'no limits':<40} {disks}\n"


def _words(name: str) -> str:
    kind, _, direction = name.partition("-")
    what = "operations" if kind == "iops" else "bytes"
    return what if direction == "total" else f"{what} of {'reads' if direction == 'read' else 'writes'}"

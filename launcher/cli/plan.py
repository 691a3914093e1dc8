"""``cvm plan``: every decision with its reason, the exact command, the expected digest. Changes nothing."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from launcher.core.cost import MemoryCost, cost_of
from launcher.core.init_data import init_data_members
from launcher.core.text import safe_text, shell_word
from launcher.io.qemu_file import SHIPPED
from launcher.service.planning import Prepared, prepare
from policy.plain_json import pretty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from launcher.core.admission import KeySlots

DESCRIPTION = "Show what `cvm launch` would do. Starts nothing, changes nothing, needs no TEE."
EPILOG = """example: cvm plan web-1.toml
         cvm plan --qemu-version 10.2 web-1.toml
exit status: 0 planned, 3 the file is wrong, 4 no toolchain"""


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument("vm", metavar="VM.toml", help="the VM's file")
    parser.add_argument(
        "--qemu-version", choices=SHIPPED, metavar="N.N",
        help=f"plan for another QEMU than this machine's: {', '.join(SHIPPED)}. Needs no QEMU here",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.plan/1)")


def quick(words: list[str]) -> SimpleNamespace | None:
    """The options of ``cvm plan [--json] VM.toml``; ``None`` leaves all else to argparse, which takes 7 ms to load."""
    rest = [word for word in words if word != "--json"]
    if len(rest) != 1 or not rest[0] or rest[0].startswith("-"):
        return None
    return SimpleNamespace(vm=rest[0], qemu_version=None, json="--json" in words)


def run(args: Namespace | SimpleNamespace) -> int:
    """Print the plan; 0."""
    prepared = prepare(args.vm, args.qemu_version)
    sys.stdout.write(pretty(plan_document(prepared), "  ") + "\n" if args.json else _text(prepared))
    return 0


def plan_document(prepared: Prepared) -> dict[str, object]:
    """The plan as JSON, schema ``cvm.plan/1``."""
    plan = prepared.plan
    cost = cost_of(prepared.config)
    registers: dict[str, object] = {}
    if prepared.td is not None:
        from launcher.cli.td_words import td_members

        registers = td_members(prepared.td)
    return {
        "schema": "cvm.plan/1",
        "name": plan.spec.name,
        "platform": plan.spec.platform.value,
        "accelerator": plan.spec.accel,
        "decisions": [item._asdict() for item in plan.decisions],
        "warnings": [item._asdict() for item in plan.warnings],
        "blockers": [item._asdict() for item in plan.blockers],
        "launch_digest": prepared.launch_digest,
        "inputs": [{"name": name, "path": path, "sha256": sha256} for name, path, sha256 in prepared.files()],
        **registers,
        "init_data": init_data_members(prepared.config, plan.init_data),
        "kernel_cmdline": plan.spec.cmdline,
        "memory_cost": {**cost._asdict(), "total": cost.total},
        "key_slots": None if prepared.keys is None else prepared.keys._asdict(),
        "timeout_seconds": plan.budget._asdict(),
        "argv": list(plan.argv),
        "environment": dict(plan.qemu.env),
        "qemu": {"version": plan.qemu.version_text, "found": plan.qemu.source, "features_from": plan.qemu.can.source},
    }


def _text(prepared: Prepared) -> str:
    plan = prepared.plan
    lines = [f"{plan.spec.name}: {plan.spec.platform.value}", "", "decisions"]
    width = max(len(item.what) for item in plan.decisions)
    lines += [f"  {item.what:<{width}}  {safe_text(item.value)}  ({safe_text(item.reason)})" for item in plan.decisions]
    lines += ["", "host memory", *_cost(cost_of(prepared.config))]
    if prepared.keys is not None:
        lines += ["", "key slots", f"  {_slots(prepared.keys)}"]
    lines += ["", "timeouts", f"  {plan.budget.boot:g} s to the agent's first word"]
    if plan.attests:
        lines.append(f"  {plan.budget.attest:g} s more to the service's answer")
    if prepared.launch_digest is not None:
        lines += ["", f"launch digest  {prepared.launch_digest}"]
        if prepared.td is not None:
            from launcher.cli.td_words import td_lines

            lines += td_lines(prepared.td)
        for name, path, sha256 in prepared.files():
            lines.append(f"  {name:<9} sha256:{sha256}  {_shorten(path) or '(none)'}")
    lines += ["", "command (QEMU runs in the VM's state folder)", *_command(plan.argv, dict(plan.qemu.env))]
    lines += [f"\nWARNING  {item.shown}" for item in plan.warnings]
    for item in plan.blockers:
        lines.append(f"\nthis host cannot run it: {item.id}: {item.seen}\n  {item.why}\n  fix: {item.fix}")
    return "\n".join(lines) + "\n"


def _cost(cost: MemoryCost) -> list[str]:
    parts = (("private", cost.private), ("shared", cost.shared), ("QEMU", cost.qemu))
    text = " + ".join(f"{name} {size >> 20}" for name, size in parts if size)
    lines = [f"  {text} = {cost.total >> 20} MiB must be free"]
    if cost.table:
        lines.append(
            f"  {cost.table >> 20} MiB of the host's page table for protection (RMP or PAMT) are taken since its boot"
        )
        lines.append(
            f"  {cost.bounce >> 20} MiB of the shared part are the guest's bounce buffer ([guest] swiotlb chooses it)"
        )
    return lines


def _slots(keys: KeySlots) -> str:
    if keys.capacity is None:
        return f"1 of {keys.resource}; how many this host has it does not say (misc.capacity of cgroup v2)"
    return f"1 of {keys.resource}; {keys.used} of {keys.capacity} are in use"


def _command(argv: tuple[str, ...], environment: dict[str, str]) -> list[str]:
    """One option with its value per line, ready to paste."""
    words = [f"{name}={shell_word(value)}" for name, value in environment.items()]
    lines = ["  " + " ".join([*words, shell_word(argv[0])])]
    for word in argv[1:]:
        if word.startswith("-") or not lines[-1].lstrip().startswith("-") or " " in lines[-1].strip():
            lines.append(f"    {shell_word(word)}")
        else:
            lines[-1] += f" {shell_word(word)}"
    return [f"{line} \\" for line in lines[:-1]] + [lines[-1]]


def _shorten(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}… ({len(text)} characters)"

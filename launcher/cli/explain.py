"""``cvm explain``: why a report's launch digest, or a quote's registers, are not the expected ones."""

from __future__ import annotations

from launcher.cli.measure_options import LaunchOptions, MeasureUsage, add_measure_options, inputs_from, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser

    from ovmf.explain import Explanation
    from policy.reference import LaunchRecipe

DESCRIPTION = (
    "Find which input makes a reported launch digest, or a TD's registers, differ from the expected ones. The report "
    "or quote is read, not verified. Exit 0 when it is explained, 10 when no combination of the inputs gives it."
)

_UNEXPLAINED = 10
_MOST_EVIDENCE = 1 << 20


class ExplainOptions(LaunchOptions):
    """The verb's options, as in argparse's namespace."""

    evidence: str | None
    digest: str | None
    eventlog: str | None
    order: str | None = None
    disk: str | None = None
    boot_path: str | None = None
    processor_id: str | None = None
    vm: str | None
    reference: str | None
    json: bool
    candidate: list[str]
    try_firmware: list[str]
    try_kernel: list[str]
    try_initrd: list[str]
    try_cmdline: list[str]


def add_arguments(parser: ArgumentParser) -> None:
    """The verb's options."""
    parser.add_argument(
        "evidence", metavar="EVIDENCE", nargs="?",
        help="an SNP report (raw, extended, the kernel's answer, Azure's blob) or a TD's quote; also in hexadecimal or "
        "base64",
    )  # fmt: skip
    parser.add_argument("--digest", metavar="HEX", help="the reported launch digest itself, instead of EVIDENCE")
    parser.add_argument("--vm", metavar="VM.toml", help="what was meant to be launched")
    parser.add_argument(
        "--reference", metavar="FILE", help='the same, as a file of "cvm measure -o"; needs no boot files'
    )
    parser.add_argument("--eventlog", metavar="FILE", help="the TD's event log, which names the event that differs")
    parser.add_argument("--processor-id", metavar="HEX", help='as of "cvm measure"')
    parser.add_argument("--json", action="store_true", help="print JSON (cvm.explain/1)")
    group = parser.add_argument_group("what may have been launched instead (each may be repeated)")
    group.add_argument(
        "--candidate",
        metavar="FILE",
        action="append",
        default=[],
        help='an earlier launch: file of "cvm measure -o", or a folder of them',
    )
    group.add_argument(
        "--try-firmware", metavar="F", action="append", default=[],
        help='another firmware, a folder of images, or "auto": all that QEMU has on this host',
    )  # fmt: skip
    group.add_argument("--try-kernel", metavar="K", action="append", default=[], help="another kernel")
    group.add_argument("--try-initrd", metavar="I", action="append", default=[], help="another initrd")
    group.add_argument("--try-cmdline", metavar="C", action="append", default=[], help="another command line")
    add_measure_options(parser)


def run(args: ExplainOptions) -> int:
    """Print the explanation; 0, or 10 when there is none. Errors are raised."""
    from launcher.core.snp_evidence import digest_of_report
    from launcher.core.td_evidence import is_td_quote
    from ovmf.explain import UNEXPLAINED, explain
    from policy.vocab import LaunchDigest

    data = _evidence(args)
    if data is not None and is_td_quote(data):
        from launcher.cli.explain_td import run_td

        return run_td(args, data)
    if args.eventlog is not None or args.processor_id is not None:
        raise MeasureUsage("--eventlog, --processor-id: only with the quote of a TD")
    reported = LaunchDigest.from_hex(args.digest or "") if data is None else digest_of_report(data)
    reference, cmdline = _reference(args)
    explanation = explain(reported, reference, _candidates(args, reference, cmdline))
    write_out(_json(explanation) if args.json else _text(explanation))
    return _UNEXPLAINED if explanation.outcome == UNEXPLAINED else 0


def _evidence(args: ExplainOptions) -> bytes | None:
    """The evidence's bytes; ``None`` when a digest is given instead."""
    if args.digest is not None and args.evidence is None:
        return None
    if args.evidence is None or args.digest is not None:
        raise MeasureUsage("want either EVIDENCE or --digest HEX")
    from launcher.core.snp_evidence import unwrapped
    from launcher.io.hashing import read_file

    return unwrapped(read_file(args.evidence, "evidence", _MOST_EVIDENCE))


def _reference(args: ExplainOptions) -> tuple[LaunchRecipe, str | None]:
    if args.reference is not None:
        if args.vm is not None or args.firmware is not None:
            raise MeasureUsage("--reference: not together with --vm or the launch's options")
        from launcher.io.suspects import recipe_in

        return recipe_in(args.reference), None
    from launcher.io.measurement import measure

    inputs = inputs_from(args, args.vm)
    return measure(inputs).recipe(), inputs.cmdline


def _candidates(args: ExplainOptions, reference: LaunchRecipe, cmdline: str | None) -> list[LaunchRecipe]:
    from launcher.io.hashing import hash_file
    from launcher.io.measurement import cmdline_digest
    from launcher.io.suspects import firmware_suspects, recorded_recipes
    from ovmf.kernel_hashes import NO_INITRD

    found = recorded_recipes(args.candidate) + firmware_suspects(reference, args.try_firmware)
    base = reference
    if reference.kernel_sha256 is None:
        if not args.try_kernel:
            return found
        base = reference._replace(initrd_sha256=NO_INITRD, cmdline_sha256=cmdline_digest(""))
    for path in args.try_kernel:
        found.append(_with(base, "kernel", path, hash_file(path, "kernel")))
        if reference.kernel_sha256 is None:
            base = found[-1]
    for path in args.try_initrd:
        found.append(_with(base, "initrd", path, hash_file(path, "initrd")))
    for text in (*args.try_cmdline, *_slips(cmdline)):
        found.append(_with(base, "cmdline", text, cmdline_digest(text)))
    return found


def _slips(cmdline: str | None) -> list[str]:
    """The command line as a stray editor, shell or wrapper leaves it."""
    if not cmdline:
        return []
    near = (cmdline.strip(), cmdline + "\n", cmdline + " ", " " + cmdline, " ".join(cmdline.split()), f'"{cmdline}"')
    return [text for text in dict.fromkeys(near) if text != cmdline]


def _with(recipe: LaunchRecipe, name: str, path: str, sha256: bytes) -> LaunchRecipe:
    from launcher.io.measurement import printable
    from policy.reference import MeasuredInput

    inputs = (MeasuredInput(name, printable(path), sha256.hex()),)
    if name == "kernel":
        return recipe._replace(kernel_sha256=sha256, inputs=inputs)
    if name == "initrd":
        return recipe._replace(initrd_sha256=sha256, inputs=inputs)
    return recipe._replace(cmdline_sha256=sha256, inputs=inputs)


def _text(explanation: Explanation) -> str:
    lines = [
        f"expected  {explanation.expected.hex()}",
        f"reported  {explanation.reported.hex()} (from evidence that was not verified here)",
        explanation.text(),
    ]
    for difference in explanation.differences:
        lines.append(f"  {difference.label}")
        lines.append(f"    expected  {difference.expected}")
        lines.append(f"    reported  {difference.reported}")
    return "\n".join(lines) + "\n"


def _json(explanation: Explanation) -> str:
    from json import dumps

    document = {
        "schema": "cvm.explain/1",
        "outcome": explanation.outcome,
        "message": explanation.text(),
        "expected": explanation.expected.hex(),
        "reported": explanation.reported.hex(),
        "verified": False,
        "differences": [difference._asdict() for difference in explanation.differences],
        "same": list(explanation.same),
        "tried": explanation.tried,
    }
    return dumps(document, indent=2, ensure_ascii=False) + "\n"

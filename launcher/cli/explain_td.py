"""``cvm explain`` for a TD: which register, which event, and which of the candidates it is."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from hashlib import sha384

from launcher.cli.measure_options import MeasureUsage, write_out
from launcher.core.td_evidence import (
    TdRegistersReported,
    events_that_replay,
    log_entries,
    registers_of_quote,
)
from launcher.io.firmware import MAX_KERNEL
from launcher.io.hashing import hash_file, read_file
from launcher.io.suspects import firmware_files
from ovmf.firmware import MAX_FIRMWARE
from ovmf.pe import authenticode
from ovmf.td_explain import TdExplanation, explain_td
from ovmf.td_firmware import TdFirmware
from ovmf.td_kernel import load_options
from ovmf.td_layout import INITRD_FIRST, INITRD_LAST
from policy.errors import CvmError, MalformedInput
from policy.fixed import LaunchDigest
from policy.measured import MeasuredEvent, replay
from policy.named import NamedTuple
from policy.reference import reference_from_bytes
from policy.reference_tdx import SINGLE_PASS, TWO_PASS, TdRecipe, registers_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.cli.explain import ExplainOptions

_UNEXPLAINED = 10
_MOST_TRIES = 20_000


class Expected(NamedTuple):
    """What was meant to be launched. ``firmware`` is a path where it is known."""

    mrtd: LaunchDigest
    recipe: TdRecipe
    firmware: str | None


class Candidate(NamedTuple):
    """Another input: the event it would change, its digest, and words for it."""

    name: str
    digest: bytes
    text: str


def run_td(args: ExplainOptions, quote: bytes) -> int:
    """Print the explanation of a quote; 0, or 10 when something differs that nothing explains."""
    reported = registers_of_quote(quote)
    expected = _expected(args)
    logged = _logged(args, reported, expected.recipe)
    found = explain_td(expected.recipe, expected.mrtd, reported.mrtd, reported.rtmrs, logged)
    mrtd = None if found.mrtd_same else _why_mrtd(args, expected, reported.mrtd)
    causes = _causes(args, expected.recipe, found, reported)
    lines = [*([] if mrtd is None else [f"MRTD: {mrtd}"]), *causes]
    explained_registers = set(found.registers) <= {d.register for d in found.differences} | _registers_in(causes)
    explained = (found.mrtd_same or mrtd is not None) and explained_registers
    document = _document(expected, reported, found, lines, explained=explained)
    write_out(json.dumps(document, indent=2) + "\n" if args.json else _text(document))
    return 0 if explained else _UNEXPLAINED


def _expected(args: ExplainOptions) -> Expected:
    if args.reference is not None:
        if args.vm is not None or args.firmware is not None:
            raise MeasureUsage("--reference: not together with --vm or the launch's options")
        value = reference_from_bytes(read_file(args.reference, "reference", 1 << 20))
        if not isinstance(value.recipe, TdRecipe):
            raise MalformedInput(f"reference: {args.reference}: is not of a TD with its events")
        return Expected(value.launch_digest, value.recipe, None)
    from launcher.cli.measure import MeasureOptions
    from launcher.cli.measure_td import measured_td

    options = MeasureOptions()
    for name, value in vars(args).items():
        setattr(options, name, value)
    if options.vm is None and options.platform is None:
        raise MeasureUsage("EVIDENCE is of a TD: want --vm, --reference, or the options with --platform tdx")
    measured = measured_td(options)
    return Expected(measured.launch_digest, measured.recipe(), measured.spec.firmware)


def _logged(args: ExplainOptions, reported: TdRegistersReported, recipe: TdRecipe) -> list[MeasuredEvent] | None:
    if args.eventlog is None:
        return None
    entries = log_entries(read_file(args.eventlog, "event log", 16 << 20))
    events = events_that_replay(entries, reported.rtmrs, recipe.events)
    if events is None:
        raise MalformedInput(
            f"event log: {args.eventlog}: does not replay to the quote's RTMR0 to RTMR2, so it explains nothing",
            code="evidence.malformed",
        )
    return events


def _why_mrtd(args: ExplainOptions, expected: Expected, mrtd: bytes) -> str | None:
    """Which firmware and order give ``mrtd``; ``None`` when none of those at hand does."""
    own = [] if expected.firmware is None else [expected.firmware]
    for path in (*own, *firmware_files(args.try_firmware)):
        try:
            firmware = TdFirmware.from_bytes(read_file(path, "firmware", MAX_FIRMWARE))
        except CvmError:
            if path in own:
                raise
            continue  # a folder holds images of other machines too
        for order in (SINGLE_PASS, TWO_PASS):
            if firmware.mrtd(two_pass=order == TWO_PASS) == mrtd:
                which = "this firmware" if path in own else f"firmware {path}"
                return f"{which}, measured in the order {order}"
    for path in args.candidate:
        value = reference_from_bytes(read_file(path, "reference", 1 << 20))
        if value.launch_digest == mrtd:
            return f"the firmware of {path} ({value.name})"
    return None


def _candidates(args: ExplainOptions) -> list[Candidate]:
    found = [
        Candidate("application", authenticode(read_file(path, "kernel", MAX_KERNEL)), f"kernel {path}")
        for path in args.try_kernel
    ]
    found += [Candidate("initrd", hash_file(path, "initrd", sha384), f"initrd {path}") for path in args.try_initrd]
    for text in args.try_cmdline:
        for order in (INITRD_FIRST, INITRD_LAST):
            for initrd in (True, False):
                options = load_options(os.fsencode(text), initrd=initrd, order=order)
                found.append(Candidate("load-options", sha384(options).digest(), f"command line {text!r}"))
    return found


def _causes(args: ExplainOptions, recipe: TdRecipe, found: TdExplanation, reported: TdRegistersReported) -> list[str]:
    """Which candidate stands for which event: read off the log, or found by trying."""
    candidates = _candidates(args)
    lines = []
    for difference in found.differences:
        digest = None if difference.logged is None else difference.logged.digest
        text = next((item.text for item in candidates if item.digest == digest), None)
        if text is not None:
            lines.append(f"RTMR{difference.register}: {difference.name} is {text}")
    for register in found.registers:
        if not any(difference.register == register for difference in found.differences):
            lines += _tried(recipe, register, candidates, reported.rtmrs[register])
    return lines


def _tried(recipe: TdRecipe, register: int, candidates: list[Candidate], want: bytes) -> list[str]:
    """Without a log: the register, replayed with every mixture of the candidates."""
    for mixture in itertools.islice(_mixtures(candidates), _MOST_TRIES):
        chosen = {item.name: item for item in mixture}
        events = tuple(
            event._replace(digest=chosen[event.name].digest) if event.name in chosen else event
            for event in recipe.events
            if event.register == register
        )
        if replay(events)[register] == want:
            used = {event.name for event in events}
            return [f"RTMR{register}: {item.name} is {item.text}" for item in mixture if item.name in used]
    return []


def _mixtures(candidates: list[Candidate]) -> Iterator[tuple[Candidate, ...]]:
    """Every choice of at most one candidate per event, the smallest first."""
    names = list(dict.fromkeys(item.name for item in candidates))
    for count in range(1, len(names) + 1):
        for group in itertools.combinations(names, count):
            yield from itertools.product(*([item for item in candidates if item.name == name] for name in group))


def _registers_in(lines: list[str]) -> set[int]:
    return {int(line[4]) for line in lines if line.startswith("RTMR")}


def _document(
    expected: Expected, reported: TdRegistersReported, found: TdExplanation, causes: list[str], *, explained: bool
) -> dict[str, object]:
    registers = registers_of(expected.recipe.events, expected.recipe.unpredicted)
    outcome = "same" if found.same else "explained" if explained else "unexplained"
    return {
        "schema": "cvm.explain/1",
        "outcome": outcome,
        "verified": False,
        "expected": expected.mrtd.hex(),
        "reported": reported.mrtd.hex(),
        "expected_rtmr": [None if value is None else value.hex() for value in registers],
        "reported_rtmr": [value.hex() for value in reported.rtmrs],
        "differing": [*([] if found.mrtd_same else ["MRTD"]), *(f"RTMR{number}" for number in found.registers)],
        "not_compared": [f"RTMR{number}" for number in found.open_registers],
        "differences": list(found.lines()),
        "causes": causes,
    }


def _text(document: dict[str, object]) -> str:
    differences, causes, skipped = document["differences"], document["causes"], document["not_compared"]
    if not (isinstance(differences, list) and isinstance(causes, list) and isinstance(skipped, list)):
        raise TypeError("document")
    lines = [f"reported  MRTD {document['reported']} (from a quote that was not verified here)"]
    if document["outcome"] == "same":
        lines.append("everything with an expected value is as expected")
    lines += [f"  {line}" for line in differences]
    lines += [f"  cause     {line}" for line in causes]
    if skipped:
        lines.append(f"  not compared, nothing is expected of it: {', '.join(skipped)}")
    if document["outcome"] == "unexplained":
        lines.append("not explained: give the TD's event log (--eventlog), or what may have been launched (--try-…)")
    return "\n".join(lines) + "\n"

"""What has to hold, beside the appraisal, before one resource is released: its conditions, judged purely.

A document is TOML; every member may be left out and then asks for nothing::

    vm = ["web-1"]                              # names that init-data gave the VM, bound to the launch
    service = ["shop"]
    launch_digest = ["<96 hex digits>"]
    minimum_tcb = {snp = 23, microcode = 210}   # SEV-SNP: parts of the reported TCB version
    minimum_tdx_tcb = {statuses = ["UpToDate"], tcb_date = 2025-08-13}   # TDX: policy.td_floor
    not_before = 2026-07-01T06:00:00Z
    not_after = 2026-07-01T08:00:00Z
    per_hour = 4
    once = true                                 # since these conditions were set
    launch_recorded = {within_minutes = 30, by = ["h1"], releases = 2}
    clones = "refuse"                           # or "flag": another machine, or a launch that another one followed
    approval = {need = 2, of = ["olga", "otto", "petra"]}

``launch_recorded``: a registered host said, at most that long ago, that it launched this launch digest; with ``by`` one
of these hosts, with ``releases`` at most so many releases of the resource for each such launch in that time.

Break-glass waives time, number, launches, approval and clones, never what the guest is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from policy.errors import ConfigInvalid
from policy.td_floor import TdFloor, td_floor
from policy.toml import TomlInvalid, strict_toml

MAX_DOCUMENT = 16 * 1024
MAX_PER_HOUR = 1_000_000
MAX_LAUNCH_MINUTES = 366 * 24 * 60
TCB_PARTS = ("bootloader", "tee", "snp", "microcode", "fmc")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@ -]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{96}")


@dataclass(frozen=True, slots=True)
class Approval:
    """``need`` different operators of those named ``of``."""

    need: int
    of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LaunchRecorded:
    """A launch of this digest is on record, not older than ``within``; ``by``: by one of these hosts (``None``: any);
    ``releases``: so many releases for each (``None``: any number).
    """

    within: timedelta
    by: tuple[str, ...] | None = None
    releases: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseConditions:
    """One document. ``None`` asks for nothing; ``launch_digest`` in lower-case hexadecimal digits."""

    vm: tuple[str, ...] | None = None
    service: tuple[str, ...] | None = None
    launch_digest: tuple[str, ...] | None = None
    minimum_tcb: Mapping[str, int] | None = None
    minimum_tdx_tcb: TdFloor | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    per_hour: int | None = None
    once: bool = False
    launch_recorded: LaunchRecorded | None = None
    clones: str | None = None
    approval: Approval | None = None


@dataclass(frozen=True, slots=True)
class GuestFacts:
    """What a decision found out about a guest. ``machine`` names the chip, ``instance`` the launch (SNP's REPORT_ID);
    ``vm``, ``service`` and ``resources`` are its init-data's, ``None`` where it had none. ``tcb`` is of SEV-SNP,
    ``tdx_tcb`` of TDX (``status``, ``tcb_date``, ``evaluation``).
    """

    launch_digest: str = ""
    vm: str | None = None
    service: str | None = None
    resources: tuple[str, ...] | None = None
    machine: str | None = None
    instance: str | None = None
    tcb: Mapping[str, int] | None = None
    tdx_tcb: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What happened to the resource before: releases in the last hour and since the conditions were set, who approves
    now, launches on record of the guest's digest and releases in the time the conditions name, the record of a
    break-glass in force, and whether the VM was seen elsewhere or its instance was followed.
    """

    last_hour: int = 0
    since_set: int = 0
    approved_by: frozenset[str] = frozenset()
    launches: int = 0
    releases: int = 0
    break_glass: int | None = None
    other_machine: bool = False
    superseded: bool = False


def failing(conditions: ReleaseConditions, facts: GuestFacts, history: History, now: datetime) -> tuple[str, ...]:
    """The names of all conditions that do not hold; empty where the resource may go."""
    fixed = _of_the_guest(conditions, facts)
    return fixed if history.break_glass is not None else fixed + _of_the_moment(conditions, facts, history, now)


def clone_signs(facts: GuestFacts, history: History) -> tuple[str, ...]:
    """Why the guest may be a copy of the VM it says it is."""
    signs = (
        ("clone.machine-unknown", facts.machine is None),
        ("clone.other-machine", history.other_machine),
        ("clone.came-back", history.superseded),
    )
    return tuple(name for name, seen in signs if seen)


def _of_the_guest(conditions: ReleaseConditions, facts: GuestFacts) -> tuple[str, ...]:
    needs_vm = conditions.clones is not None and facts.vm is None
    failed = (
        ("condition.vm", needs_vm or not _among(facts.vm, conditions.vm)),
        ("condition.service", not _among(facts.service, conditions.service)),
        ("condition.launch-digest", not _among(facts.launch_digest, conditions.launch_digest)),
        ("condition.minimum-tcb", not _current_enough(facts, conditions)),
    )
    return tuple(name for name, bad in failed if bad)


def _of_the_moment(
    conditions: ReleaseConditions, facts: GuestFacts, history: History, now: datetime
) -> tuple[str, ...]:
    early = conditions.not_before is not None and now < conditions.not_before
    late = conditions.not_after is not None and now >= conditions.not_after
    failed = (
        ("condition.time-window", early or late),
        ("condition.per-hour", conditions.per_hour is not None and history.last_hour >= conditions.per_hour),
        ("condition.once", conditions.once and history.since_set > 0),
        ("condition.launch-recorded", not _launched(conditions.launch_recorded, history)),
        ("condition.approval", not approved(conditions.approval, history.approved_by)),
    )
    refused = clone_signs(facts, history) if conditions.clones == "refuse" else ()
    return (*(name for name, bad in failed if bad), *refused)


def approved(approval: Approval | None, by: frozenset[str]) -> bool:
    """Whether enough of those who may approve did."""
    return approval is None or len(by & set(approval.of)) >= approval.need


def _launched(wanted: LaunchRecorded | None, history: History) -> bool:
    if wanted is None:
        return True
    return history.launches > 0 and (wanted.releases is None or history.releases < wanted.releases * history.launches)


def _among(value: str | None, wanted: tuple[str, ...] | None) -> bool:
    return wanted is None or value in wanted


def _current_enough(facts: GuestFacts, conditions: ReleaseConditions) -> bool:
    """Each platform by its own floor. Where there is one for the other platform only, this one has none to reach."""
    least, floor = conditions.minimum_tcb, conditions.minimum_tdx_tcb
    if floor is not None and (facts.tdx_tcb is not None or least is None):
        return floor.reached(facts.tdx_tcb)
    return _reaches(facts.tcb, least)


def _reaches(got: Mapping[str, int] | None, least: Mapping[str, int] | None) -> bool:
    """Part by part; a part the guest's platform does not have is not reached."""
    return least is None or (got is not None and all(got.get(part, -1) >= number for part, number in least.items()))


def parse_conditions(data: bytes) -> ReleaseConditions:
    """Read a document. Raises ConfigInvalid with every problem."""
    if len(data) > MAX_DOCUMENT:
        raise ConfigInvalid("conditions", (f"{len(data)} bytes, want at most {MAX_DOCUMENT}",))
    try:
        found = strict_toml(data.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ConfigInvalid("conditions", (f"byte {exc.start} is not UTF-8",)) from None
    except TomlInvalid as exc:
        raise ConfigInvalid("conditions", (exc.message,)) from None
    known = {field.name for field in fields(ReleaseConditions)}
    problems = [f"{name}: unknown" for name in found if name not in known]
    values = {}
    for name in sorted(known & set(found)):
        try:
            values[name] = _READERS[name](found[name])
        except ValueError as exc:
            problems.append(f"{name}: {exc}")
    if problems:
        raise ConfigInvalid("conditions", tuple(problems))
    conditions = ReleaseConditions(**values)
    if conditions.not_before and conditions.not_after and conditions.not_before >= conditions.not_after:
        raise ConfigInvalid("conditions", ("not_after: want a time after not_before",))
    return conditions


def _names(value: Any) -> tuple[str, ...]:
    return _list(value, _NAME, "names")


def _digests(value: Any) -> tuple[str, ...]:
    return _list(value, _DIGEST, "digests of 64 or 96 lower-case hexadecimal digits")


def _list(value: Any, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    good = (
        isinstance(value, list) and value and all(isinstance(word, str) and pattern.fullmatch(word) for word in value)
    )
    if not good or len(set(value)) != len(value):
        raise ValueError(f"want a list of different {what}")
    return tuple(value)


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("want a time with its zone, such as 2026-07-01T06:00:00Z")
    return value.astimezone(UTC)


def _number(value: Any, most: int = MAX_PER_HOUR) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
        raise ValueError(f"want a number, 1..{most}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("want true or false")
    return value


def _clones(value: Any) -> str:
    if value not in ("refuse", "flag"):
        raise ValueError('want "refuse" or "flag"')
    return str(value)


def _tcb(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value or not set(value) <= set(TCB_PARTS):
        raise ValueError(f"want a table with some of {', '.join(TCB_PARTS)}")
    return {part: _number(number, 255) for part, number in value.items()}


def _launch_recorded(value: Any) -> LaunchRecorded:
    if not isinstance(value, dict) or not {"within_minutes"} <= set(value) <= {"within_minutes", "by", "releases"}:
        raise ValueError("want {within_minutes = NUMBER} and, where wanted, by = [HOSTS] and releases = NUMBER")
    return LaunchRecorded(
        timedelta(minutes=_number(value["within_minutes"], MAX_LAUNCH_MINUTES)),
        _names(value["by"]) if "by" in value else None,
        _number(value["releases"]) if "releases" in value else None,
    )


def _approval(value: Any) -> Approval:
    if not isinstance(value, dict) or set(value) != {"need", "of"}:
        raise ValueError("want {need = NUMBER, of = [NAMES]}")
    of = _names(value["of"])
    return Approval(_number(value["need"], len(of)), of)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "vm": _names,
    "service": _names,
    "launch_digest": _digests,
    "minimum_tcb": _tcb,
    "minimum_tdx_tcb": td_floor,
    "not_before": _time,
    "not_after": _time,
    "per_hour": _number,
    "once": _flag,
    "launch_recorded": _launch_recorded,
    "clones": _clones,
    "approval": _approval,
}

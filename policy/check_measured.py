"""What is the same about registered launch digests on every platform: finding them, showing them, what stages say."""

from __future__ import annotations

from typing import Any

from policy.check import Appraisal, Check, compared
from policy.reference import ReferenceValue
from policy.reference_set import SHOWN, counts, standing

REGISTERED = "measurement.accept = registered: reference values added by an operator"
_NONE = "no reference value for this platform"


def registered(of: Appraisal[Any, Any], got: bytes) -> Check:
    """``got`` is the launch digest of a reference value that counts for this guest now."""
    same = of.references.equal(of.platform, got)
    matches, clause = registered_counts(of, got), REGISTERED
    if same:
        clause += f" (matches {', '.join(item.name for item in same)}){standing(same, of.guest, of.now)}"
    return compared("measurement", expected(of, got if matches else None), got.hex(), matches, clause)


def registered_counts(of: Appraisal[Any, Any], got: bytes) -> bool:
    """Whether a reference value with this launch digest counts for this guest now."""
    same = of.references.equal(of.platform, got)
    return bool(same) and any(counts(item, of.guest, of.now) for item in same)


def expected(of: Appraisal[Any, Any], matched: bytes | None = None) -> str:
    """The digests that would do; of more than a few the one that was ``matched`` and how many there are."""
    known = of.references.of_platform(of.platform)
    if len(known) <= SHOWN:
        return " or ".join(dict.fromkeys(item.launch_digest.hex() for item in usable(of, known))) or _NONE
    return ("" if matched is None else f"{matched.hex()} or ") + f"one of {len(known)} registered for this platform"


def usable(of: Appraisal[Any, Any], known: Any) -> list[ReferenceValue]:
    """Those that count for this guest now."""
    return [item for item in known if counts(item, of.guest, of.now)]


def stage_warnings(of: Appraisal[Any, Any], got: bytes) -> tuple[str, ...]:
    """What is matched now and will not be one day, or was matched as the next value."""
    if not of.references.staged:
        return ()
    found = usable(of, of.references.equal(of.platform, got))
    return tuple(
        [f"measurement: {item.name} {item.stage.remark}" for item in found if item.stage and item.stage.remark]
    )

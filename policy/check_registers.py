"""Rules about what a TD runs: MRTD and the four RTMRs against reference values and the policy's own lists.

A reference value matches as a whole: MRTD equals and so does every RTMR it predicts. A register that it leaves open is
the business of that register's rule, which only believes reference values that match, if one does: otherwise half of
one image and half of another would pass together.
"""

from __future__ import annotations

from policy.check import FAIL, PASS, Check, TdxAppraisal, TdxRule, compared, left_out, one_of
from policy.check_measured import REGISTERED, expected, usable
from policy.initdata import rtmr3_after
from policy.measured_diff import event_differences, first_differences
from policy.reference import LaunchRecipe, ReferenceValue
from policy.reference_set import SHOWN, standing
from policy.tdx_rules import INIT_DATA

_WHAT = (
    "configuration, Secure Boot variables and ACPI tables (BadAML: the host's ACPI code runs in the guest's kernel)",
    "boot applications and kernel",
    "command line and initrd",
    "whatever software in the TD extended at run time",
)


def measurement(of: TdxAppraisal) -> Check:
    """MRTD is expected; where reference values say so, with the RTMRs that belong to it."""
    got, document = of.claims.mrtd, of.document
    if document.measurement == "any":
        return left_out("measurement", got.hex(), "measurement.accept = any: every guest of these chips is accepted")
    if document.measurement == "listed":
        wanted = " or ".join(item.hex() for item in document.launch_digests)
        clause = "measurement.launch_digests: MRTD is listed in the policy; it holds the firmware only"
        return compared("measurement", wanted, got.hex(), got in document.launch_digests, clause)
    named = of.references.equal(of.platform, got)
    said = standing(named, of.guest, of.now)
    same = usable(of, named)
    matching = _matching(of, same)
    if matching:
        names = ", ".join(item.name for item in matching)
        return Check("measurement", got.hex(), got.hex(), PASS, f"{REGISTERED} (matches {names}){said}")
    if not same:
        return Check("measurement", expected(of), got.hex(), FAIL, REGISTERED + said)
    nearest = min(same, key=lambda item: len(_differing(of, item)))
    return _mismatch(of, nearest, REGISTERED + said)


def register(index: int) -> TdxRule:
    """One RTMR."""
    name = f"tdx.rtmr{index}"
    what = f"{name}: {_WHAT[index]}"

    def check(of: TdxAppraisal) -> Check:
        wanted, got = of.rules.rtmrs[index], of.claims.rtmrs[index]
        if wanted is None:
            return left_out(name, got.hex(), f"{what}; any is accepted: {of.rules.rtmr_reason}")
        if wanted == INIT_DATA:
            return one_of(name, _by_init_data(of.claims.mrconfigid), got, f"{what}; zero, or the init-data's event")
        if not isinstance(wanted, str):
            return one_of(name, wanted, got, what)
        same = usable(of, of.references.equal(of.platform, of.claims.mrtd))
        believed = _matching(of, same) or same or _few(of)
        values = dict.fromkeys(value for item in believed if (value := _predicted(item).get(index)) is not None)
        wanted_text = " or ".join(value.hex() for value in values) or "no reference value predicts it"
        return compared(name, wanted_text, got.hex(), got in values, f"{what}; as its reference value predicts")

    return check


def _by_init_data(mrconfigid: bytes) -> tuple[bytes, ...]:
    """What RTMR3 may be before anything but init-data was extended: MRCONFIGID says which, zero that there is none."""
    zero = bytes(48)
    return (zero,) if mrconfigid == zero else (zero, rtmr3_after(mrconfigid))


def _few(of: TdxAppraisal) -> list[ReferenceValue]:
    """Reference values of other firmware, to compare a register with. Where MRTD had to be registered this can only
    show what was expected, so many are left out.
    """
    known = of.references.of_platform(of.platform)
    shown = len(known) <= SHOWN or of.document.measurement != "registered"
    return usable(of, known) if shown else []


def _predicted(item: ReferenceValue) -> dict[int, bytes]:
    return {index: value for index, value in enumerate(item.rtmrs) if value is not None}


def _differing(of: TdxAppraisal, item: ReferenceValue) -> list[int]:
    return [index for index, value in _predicted(item).items() if value != of.claims.rtmrs[index]]


def _matching(of: TdxAppraisal, same: list[ReferenceValue]) -> list[ReferenceValue]:
    return [item for item in same if not _differing(of, item)]


def _mismatch(of: TdxAppraisal, nearest: ReferenceValue, clause: str) -> Check:
    """MRTD is that of ``nearest``, but not every register: which, and the first event that differs in each."""
    wrong, predicted = _differing(of, nearest), _predicted(nearest)
    wanted = "; ".join(f"RTMR{index} {predicted[index].hex()}" for index in wrong)
    got = "; ".join(f"RTMR{index} {of.claims.rtmrs[index].hex()}" for index in wrong)
    text = f"{clause}; MRTD is that of {nearest.name}"
    recipe = nearest.recipe
    if of.claims.events is not None and recipe is not None and not isinstance(recipe, LaunchRecipe):
        differences = event_differences(recipe.events, of.claims.events, wrong)
        first = [difference.text() for difference in first_differences(differences).values()]
        text += f"; first difference: {'; '.join(first)}" if first else ""
    return Check("measurement", wanted, got, FAIL, text)


REGISTER_RULES: tuple[TdxRule, ...] = tuple(register(index) for index in range(4))

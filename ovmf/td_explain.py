"""Why a TD's measurements are not the expected ones, in words: register by register, event by event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from policy.fixed import LaunchDigest
from policy.measured import REGISTERS, MeasuredEvent
from policy.measured_diff import EventDifference, event_differences
from policy.reference_tdx import TdRecipe, registers_of


class TdExplanation(NamedTuple):
    """``mrtd_same``: the firmware and the VMM's order are as expected. ``registers``: the numbers of expected registers
    that differ; ``open_registers``: those without an expected value, which are not compared. ``differences``: of the
    registers that differ, when a log was given."""

    mrtd_same: bool
    registers: tuple[int, ...]
    open_registers: tuple[int, ...]
    differences: tuple[EventDifference, ...]

    @property
    def same(self) -> bool:
        """Everything with an expected value has it."""
        return self.mrtd_same and not self.registers

    def lines(self) -> tuple[str, ...]:
        """For people; empty when everything is as expected."""
        found = [] if self.mrtd_same else ["MRTD: another firmware, or a VMM that measures it in another order"]
        explained = {difference.register for difference in self.differences}
        found += [f"RTMR{index}: differs, and no log tells why" for index in self.registers if index not in explained]
        return (*found, *(difference.text() for difference in self.differences))


def explain_td(
    recipe: TdRecipe,
    expected_mrtd: LaunchDigest,
    mrtd: bytes,
    rtmrs: Sequence[bytes],
    logged: Sequence[MeasuredEvent] | None = None,
) -> TdExplanation:
    """Compare what a TD reported with a recipe.

    ``rtmrs``: the four reported registers; ``logged``: events of a log that *replays to them*, which the caller has
    checked, for a log that does not explains nothing.
    """
    if len(rtmrs) != REGISTERS:
        raise ValueError(f"rtmrs: got {len(rtmrs)}, want {REGISTERS}")
    expected = registers_of(recipe.events, recipe.unpredicted)
    wrong = tuple(n for n, value in enumerate(expected) if value is not None and value != rtmrs[n])
    unknown = tuple(n for n, value in enumerate(expected) if value is None)
    differences = () if logged is None else event_differences(recipe.events, logged, wrong)
    return TdExplanation(mrtd == expected_mrtd, wrong, unknown, differences)

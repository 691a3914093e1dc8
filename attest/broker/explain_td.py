"""Why a TD's registers were none of the expected ones: which events of its log are not those predicted.

The log is on record with the decision, and it replays to the registers of the quote, so nothing has to be searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from attest.broker.present_tdx import PresentedTd
from attest.store.errors import NotFound
from attest.verifier.eventlog import measured_events
from ovmf.explain import EXPLAINED, SAME, UNEXPLAINED
from policy.measured_diff import EventDifference, event_differences
from policy.reference import ReferenceValue
from policy.reference_tdx import TdRecipe
from policy.vocab import LaunchDigest


class TdExplained(NamedTuple):
    """A TD beside the reference value named ``reference``. ``registers`` are the RTMRs that differ; ``outcome`` is
    ``same``, ``explained`` (by ``differences``) or ``unexplained``: another firmware, or no log to say more.
    """

    reference: str
    outcome: str
    reported: LaunchDigest
    expected: LaunchDigest
    registers: tuple[int, ...]
    differences: tuple[EventDifference, ...]

    def text(self) -> str:
        """One sentence for people."""
        if self.reported != self.expected:
            return "MRTD differs: another firmware"
        if self.outcome == SAME:
            return "MRTD and every predicted RTMR are the expected ones"
        differing = ", ".join(f"RTMR{index}" for index in self.registers)
        if self.outcome == UNEXPLAINED:
            return f"{differing}: no log, or no predicted events, to tell which event differs"
        return f"same firmware; {'; '.join(item.text() for item in self.differences)}"


def explain_td(presented: PresentedTd, known: Sequence[ReferenceValue]) -> TdExplained:
    """Compare with each of ``known``; the closest is returned. The log must have been found to replay. Raises NotFound
    when ``known`` has no value of a TD.
    """
    found = [_beside(presented, value) for value in known if isinstance(value.recipe, TdRecipe)]
    if not found:
        raise NotFound("reference values: none of a TD with a recipe is in force")
    return min(found, key=lambda item: (item.reported != item.expected, len(item.registers), len(item.differences)))


def _beside(presented: PresentedTd, value: ReferenceValue) -> TdExplained:
    body, log, recipe = presented.body, presented.event_log, value.recipe
    pairs = zip(value.rtmrs, body.rtmrs, strict=False)
    wrong = tuple(index for index, (want, got) in enumerate(pairs) if want not in (None, got))
    differences: tuple[EventDifference, ...] = ()
    if log is not None and isinstance(recipe, TdRecipe):
        differences = event_differences(recipe.events, measured_events(log), wrong)
    named = {item.register for item in differences}
    outcome = SAME if not wrong else EXPLAINED if named.issuperset(wrong) else UNEXPLAINED
    if body.mrtd != value.launch_digest:
        outcome = UNEXPLAINED
    return TdExplained(value.name, outcome, LaunchDigest(body.mrtd), value.launch_digest, wrong, differences)

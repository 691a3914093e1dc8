"""The least a TD's platform must have before a resource is released: ``minimum_tdx_tcb`` of release conditions.

TCB levels of Intel's are not numbers to compare part by part: the service that verified the quote found the level, and
what can be asked for is its status, the date of its TCB, and the number of the evaluation that was used::

    minimum_tdx_tcb = {statuses = ["UpToDate"], tcb_date = 2025-08-13, evaluation = 19}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from policy.tdx import TcbStatus

MAX_EVALUATION = 100_000
PARTS = ("statuses", "tcb_date", "evaluation")


@dataclass(frozen=True, slots=True)
class TdFloor:
    """``None`` asks for nothing. ``tcb_date`` is the earliest date the matched levels may be of."""

    statuses: tuple[str, ...] | None = None
    tcb_date: date | None = None
    evaluation: int | None = None

    def reached(self, tcb: Mapping[str, Any] | None) -> bool:
        """By what a decision found out about a TD (``status``, ``tcb_date`` as YYYY-MM-DD, ``evaluation``)."""
        if tcb is None:
            return False
        return (
            (self.statuses is None or tcb["status"] in self.statuses)
            and (self.tcb_date is None or date.fromisoformat(tcb["tcb_date"]) >= self.tcb_date)
            and (self.evaluation is None or tcb["evaluation"] >= self.evaluation)
        )


def td_floor(value: Any) -> TdFloor:
    """Read it from TOML. Raises ValueError with what is wanted."""
    if not isinstance(value, dict) or not value or not set(value) <= set(PARTS):
        raise ValueError(f"want a table with some of {', '.join(PARTS)}")
    return TdFloor(_statuses(value), _date(value), _evaluation(value))


def _statuses(value: dict[str, Any]) -> tuple[str, ...] | None:
    found, known = value.get("statuses"), [status.value for status in TcbStatus]
    if found is not None and not (isinstance(found, list) and found and all(status in known for status in found)):
        raise ValueError(f"statuses: want a list of some of {', '.join(known)}")
    return None if found is None else tuple(found)


def _date(value: dict[str, Any]) -> date | None:
    found = value.get("tcb_date")
    if found is not None and (isinstance(found, datetime) or not isinstance(found, date)):
        raise ValueError("tcb_date: want a date such as 2025-08-13")
    return found


def _evaluation(value: dict[str, Any]) -> int | None:
    found = value.get("evaluation")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= MAX_EVALUATION):
        raise ValueError(f"evaluation: want a tcbEvaluationDataNumber, 1..{MAX_EVALUATION}")
    return found

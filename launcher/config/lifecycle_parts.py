"""The table ``[lifecycle]`` of a VM file."""

from __future__ import annotations

from launcher.core.lifecycle import CHOICES, ON_REBOOT, Lifecycle
from policy.table import Table

_DAY = 86400


def lifecycle(table: Table) -> Lifecycle:
    """``[lifecycle]``"""
    default = Lifecycle()
    settings = Lifecycle(
        restart=table.choice("restart", CHOICES, default.restart) or default.restart,
        backoff=_number(table, "backoff_seconds", default.backoff, 1, _DAY),
        backoff_max=_number(table, "backoff_max_seconds", default.backoff_max, 1, _DAY),
        retries=_number(table, "retries", default.retries, 0, 1000),
        reset=_number(table, "reset_seconds", default.reset, 1, _DAY),
        on_reboot=table.choice("on_reboot", ON_REBOOT, default.on_reboot) or default.on_reboot,
    )
    if settings.backoff > settings.backoff_max:
        table.problem("backoff_max_seconds", f"got {settings.backoff_max}, want at least backoff_seconds")
    table.finish()
    return settings


def _number(table: Table, key: str, default: int, least: int, most: int) -> int:
    value = table.value(key, int, default)
    if value is None or not least <= value <= most:
        table.problem(key, f"got {value}, want {least} to {most}")
        return default
    return value

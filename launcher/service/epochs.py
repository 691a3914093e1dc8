"""Epochs of a VM: each time its disks, or disks and memory, go back to a snapshot, a line of its ledger begins one.

The service learns of it with the signed record of the next launch.
"""

from __future__ import annotations

from launcher.io import clock, ledger
from launcher.io.statedir import VmDir


def begin_epoch(vm: VmDir, snapshot: str, what: str) -> int:
    """Write down that ``what`` (such as "disk a is") back at ``snapshot``; the number of the epoch that begins.

    Raises `StateUnusable`, `LedgerBroken`.
    """
    epoch = 1 + sum(1 for entry in ledger.read_ledger(vm).entries if entry.get("event") == ledger.REVERT)
    time = clock.now_in_milliseconds()
    reason = f"{what} back at snapshot {snapshot}; epoch {epoch}"
    entry = {"event": ledger.REVERT, "time": time, "outcome": "reverted", "reason": reason, "epoch": epoch}
    ledger.append(vm, entry)
    return epoch

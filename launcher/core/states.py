"""The states of a VM. Light: ``cvm ps`` needs them."""

from __future__ import annotations

STARTING, BOOTED, ATTESTED, RUNNING = "starting", "booted", "attested", "running"
STOPPING = "stopping"
RESTARTING = "restarting"
"""It has ended; its launcher waits before it starts it again."""
REFUSED, FAILED, STOPPED = "refused", "failed", "stopped"
KILLED, ORPHANED = "killed", "orphaned"
"""Only ever seen from outside: the launcher is gone without a word; its QEMU with it, or still there."""

MOVING, MOVED = "moving", "moved"
"""It is down here and goes, or went, to another host."""

LIVE = (STARTING, BOOTED, ATTESTED, RUNNING, STOPPING, RESTARTING)
"""States in which a launcher must be at work; REFUSED and FAILED become final when the VM has ended."""

ORDER = {STARTING: 0, BOOTED: 1, ATTESTED: 2, RUNNING: 3}
"""A guest only moves forward."""

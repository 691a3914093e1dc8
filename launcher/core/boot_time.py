"""Where the time of a launch went: the launcher's observations as consecutive stages.

All times are the host's, so they compare; what the guest says of its own clock is not used. A stage nobody observed
has no time of its own: its share is in the next one that was observed, which says so by its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping

from policy.named import NamedTuple

STAGES = (
    ("qemu", "qemu_ready", "process and monitor: until QEMU answers"),
    ("firmware", "kernel", "launch, firmware and measured boot: until the kernel's first line"),
    ("kernel", "booted", "kernel and initrd: until the agent's first word"),
    ("evidence", "evidence", "network, challenge and evidence"),
    ("attested", "attested", "the service's decision"),
    ("key", "unlocked", "key fetched, disk unlocked"),
    ("ready", "running", "until the payload runs"),
)
"""(stage, the observation that ends it, what it holds)."""


class Stage(NamedTuple):
    """``seconds`` between ``begin`` and ``end``, both since QEMU was started."""

    name: str
    begin: float
    end: float
    what: str

    @property
    def seconds(self) -> float:
        """Its length."""
        return round(self.end - self.begin, 3)


def stages(seconds: Mapping[str, float]) -> tuple[Stage, ...]:
    """The stages that were observed, in the order of their ends. A later stage seen first (console and status port are
    read apart) gets length 0, never a negative one.
    """
    found: list[Stage] = []
    at = 0.0
    for name, end, what in STAGES:
        if end in seconds:
            until = max(at, float(seconds[end]))
            found.append(Stage(name, at, until, what))
            at = until
    return tuple(found)


def missing(seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the stages whose end nobody observed."""
    return tuple(name for name, end, _ in STAGES if end not in seconds)

"""Whether a VM that has ended is started again, and after how long. Pure: times go in, a decision comes out.

Never started again: a VM that somebody stopped, and one that the attestation service refused. A refused guest would be
refused again, and the service counts who asks. Light: on the start-up path of ``cvm measure``.
"""

from __future__ import annotations

from policy.named import NamedTuple

NEVER, ON_FAILURE, ALWAYS = "never", "on-failure", "always"
CHOICES = (NEVER, ON_FAILURE, ALWAYS)
STOP, RELAUNCH, IN_PLACE = "stop", "relaunch", "in-place"
ON_REBOOT = (STOP, RELAUNCH, IN_PLACE)
"""What a guest's reboot does: end the VM; start a new QEMU; have the same QEMU launch its guest anew."""


class Lifecycle(NamedTuple):
    """``[lifecycle]``. ``restart``: one of :data:`CHOICES`; ``on_reboot``: of :data:`ON_REBOOT`. The first wait is
    ``backoff`` seconds, each next one twice as long, at most ``backoff_max``. After ``retries`` restarts it stays down;
    a VM that was up for ``reset`` seconds has all of them again.
    """

    restart: str = NEVER
    backoff: int = 1
    backoff_max: int = 300
    retries: int = 5
    reset: int = 600
    on_reboot: str = STOP


class Ending(NamedTuple):
    """How a VM ended: an outcome of `cvm.launch/1`, whether somebody asked for the end, seconds it was up, and whether
    the guest wanted to boot again.
    """

    outcome: str
    state: str
    asked: bool
    lived: float
    rebooted: bool = False


class Restarts:
    """The count of one launcher. ``since``: restarts since the first launch, never reset."""

    def __init__(self, settings: Lifecycle) -> None:
        self.settings = settings
        self.since = 0
        self._tries = 0

    def after(self, ending: Ending) -> float | None:
        """Seconds to wait before the next start; ``None``: leave it down."""
        settings = self.settings
        if ending.lived >= settings.reset:
            self._tries = 0
        if not _wanted(settings, ending) or self._tries >= settings.retries:
            return None
        wait = min(settings.backoff_max, settings.backoff * 2 ** min(self._tries, 32))
        self._tries += 1
        self.since += 1
        return float(wait)

    @property
    def tries(self) -> int:
        """Restarts since the VM last was up for long enough."""
        return self._tries


def _wanted(settings: Lifecycle, ending: Ending) -> bool:
    if ending.asked or ending.outcome in ("refused", "interrupted"):
        return False
    if ending.rebooted and settings.on_reboot != STOP:
        return True
    return settings.restart == ALWAYS or (settings.restart == ON_FAILURE and ending.state == "failed")

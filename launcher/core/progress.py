"""The life of one launched VM as a state machine without I/O: observations go in with their time, state comes out.

    starting ─▶ booted ─▶ attested ─▶ running ─▶ stopped
        │          ├─▶ refused (the service said no)
        └──────────┴─▶ failed  (firmware, guest, QEMU, time)

A guest only moves forward: once refused or failed, nothing it says makes it attested. Times are seconds since QEMU was
started.
"""

from __future__ import annotations

from launcher.core.console import Sign, sign_of
from launcher.core.states import ATTESTED, BOOTED, FAILED, ORDER, REFUSED, RUNNING, STARTING, STOPPED
from launcher.core.timeouts import Budget
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from launcher.core.status import StatusEvent

MAX_EVENTS = 500
MAX_OUTPUT = 64 << 10
_FINAL = (REFUSED, FAILED, STOPPED)
_NOISE = frozenset(
    ("RTC_CHANGE", "NIC_RX_FILTER_CHANGED", "VSERPORT_CHANGE", "RESUME", "STOP", "POWERDOWN", "JOB_STATUS_CHANGE")
)
"""Monitor events that a guest can cause at will and that tell nothing."""
_AGENT = (Sign.AGENT_BOOTED, Sign.AGENT_ATTESTED, Sign.AGENT_REFUSED, Sign.AGENT_FAILED)


class Seen(NamedTuple):
    """One thing that happened. ``source``: guest, qemu, console or launcher."""

    time: float
    source: str
    event: str
    detail: dict[str, Any]


class Kind(NamedTuple):
    """What to expect of a VM: whether its agent attests and reports, and how long that may take."""

    attests: bool
    budget: Budget


class Progress:
    """Feed it with what happens; read ``state``, ``code``, ``reason``, ``seconds``, ``events``, ``output``."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.state = STARTING
        self.code = ""
        self.reason = ""
        self.seconds: dict[str, float] = {}
        self.events: list[Seen] = []
        self.output = ""
        self.kernel_seen = False
        self.interrupted = False
        self.rebooted = False
        """Whether the guest asked to boot again; only then did it end."""
        self._port_speaks = False
        self.listener: Callable[[Seen], None] | None = None
        """Gets everything that is noted, also what is too much for ``events``."""

    @property
    def decided(self) -> bool:
        """Whether nothing that follows can change the outcome."""
        return self.state in _FINAL

    @property
    def was_attested(self) -> bool:
        """Whether the guest ever said that the service accepted it; never true for a VM that is not meant to attest."""
        return self.kind.attests and "attested" in self.seconds

    def status(self, event: StatusEvent, at: float) -> None:
        """A line from the status port."""
        self._port_speaks = True
        self._note(Seen(at, "guest", event.event, {**event.detail, "guest_time": event.time}))
        if event.event != "attested" or self.kind.attests:
            self._first(event.event.replace("-", "_"), at)
        if event.event == "payload-output" and isinstance(event.detail.get("text"), str):
            self.output = (self.output + event.detail["text"])[:MAX_OUTPUT]
        elif event.event == "refused":
            self._conclude(REFUSED, "attestation.refused", _words(event.detail, "the service refused the guest"))
        elif event.event == "failed":
            self._conclude(FAILED, "guest.failed", _words(event.detail, "the guest failed"))
        elif event.event in ORDER:
            self._forward(event.event)

    def line(self, text: str, at: float) -> None:
        """A line on the console."""
        found = sign_of(text)
        if found is None:
            return
        sign, words = found
        if sign is Sign.KERNEL:
            self._kernel(at)
        elif sign is Sign.PANIC:
            if not self.decided:
                self._note(Seen(at, "console", "panic", {"text": words}))
            self._conclude(FAILED, "guest.failed", f"the guest's kernel panicked: {words}{_meaning(words)}")
        elif sign is Sign.NOTHING_TO_BOOT and not self.kernel_seen:
            self.firmware_refused(f"the firmware found nothing it may boot: {words}", at)
        elif sign in _AGENT and not self._port_speaks:
            self._agent_line(sign, words, at)

    def firmware_refused(self, reason: str, at: float) -> None:
        """The firmware stopped before the kernel."""
        if self.decided:
            return
        self._first("firmware_refused", at)
        self._note(Seen(at, "launcher", "firmware-refused", {"text": reason}))
        self._conclude(FAILED, "firmware.refused-kernel", reason)

    def qemu_event(self, name: str, data: dict[str, Any], at: float) -> None:
        """An event from QEMU's monitor."""
        if name in _NOISE:
            return
        self._note(Seen(at, "qemu", name, data))
        if name == "GUEST_PANICKED":
            self._conclude(FAILED, "guest.failed", "the guest panicked")
        elif name == "SHUTDOWN" and data.get("reason") == "guest-reset":
            self.rebooted = True
            self.reason = self.reason or "the guest asked for a reboot, which is a launch of its own: each is counted"

    def emulator_ended(self, words: str, at: float) -> None:
        """The emulated chip is gone: from now on no evidence can be had."""
        self._note(Seen(at, "launcher", "emulator-ended", {"text": words}))
        if not self.was_attested:
            self._conclude(FAILED, "emulator.failed", f"the emulated chip ended: {words}")

    def storage_ended(self, words: str, at: float) -> None:
        """The storage daemon is gone, and with it every network disk: what the guest writes goes nowhere."""
        self._note(Seen(at, "launcher", "storage-ended", {"text": words}))
        self._conclude(FAILED, "storage.failed", f"the storage daemon ended: {words}")

    def stopped_by_us(self, reason: str, at: float) -> None:
        """Somebody asked for the end."""
        self._note(Seen(at, "launcher", "stop", {"text": reason}))
        self.interrupted = self.interrupted or not self.decided
        self._conclude(STOPPED, "stopped", reason)

    def qemu_ended(self, status: int, words: str, at: float) -> None:
        """QEMU has ended with ``status`` (negative: signal); ``words`` are the last lines it wrote."""
        self._first("stopped", at)
        if self.decided:
            return
        if status != 0:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            self._conclude(
                FAILED, "qemu.failed", f"QEMU ended with {how}: {words or 'it said nothing'}{_meaning(words)}"
            )
        elif self.kind.attests and not self.was_attested:
            self._conclude(FAILED, "guest.failed", self.reason or "the guest powered off before it had attested")
        else:
            self._conclude(STOPPED, "stopped", self.reason or "the guest powered off")

    def migrated(self, reason: str, at: float) -> None:
        """It runs on another host now; this QEMU has only an empty shell."""
        self._note(Seen(at, "launcher", "migrated", {"text": reason}))
        self._conclude(STOPPED, "migrated", reason)

    def arrived(self, at: float) -> None:
        """It came here from another host and goes on running."""
        self._note(Seen(at, "launcher", "arrived", {}))
        self._first("booted", at)
        self._forward(RUNNING)

    def arrival_failed(self, reason: str, at: float) -> None:
        """What came is no VM."""
        self._note(Seen(at, "launcher", "arrival-failed", {"text": reason}))
        self._conclude(FAILED, "migration.failed", reason)

    def tick(self, at: float) -> None:
        """Time passes."""
        if self.decided or self.was_attested:
            return
        budget, booted = self.kind.budget, self.seconds.get("booted")
        if booted is None and at > budget.boot:
            if not self.kind.attests:
                self._first("booted", at)
                self._forward(RUNNING)
                self.reason = "no agent in this guest: it is taken to run"
                self._note(Seen(at, "launcher", "quiet", {"text": self.reason}))
                return
            where = (
                "the kernel started, the agent did not report" if self.kernel_seen else "nothing was heard of a kernel"
            )
            self._conclude(FAILED, "launch.timeout", f"not booted after {budget.boot:g} s: {where}")
        elif booted is not None and self.kind.attests and at > booted + budget.attest:
            self._conclude(
                FAILED,
                "launch.timeout",
                f"booted, but not attested {budget.attest:g} s later: is the service reachable?",
            )

    def _kernel(self, at: float) -> None:
        if self.kernel_seen:
            return
        self.kernel_seen = True
        self._first("kernel", at)
        self._note(Seen(at, "console", "kernel", {}))
        if not self.kind.attests:
            self._first("booted", at)
            self._forward(BOOTED)

    def _agent_line(self, sign: Sign, words: str, at: float) -> None:
        self._note(Seen(at, "console", sign.value, {"text": words}))
        if sign is Sign.AGENT_REFUSED:
            self._conclude(REFUSED, "attestation.refused", words)
        elif sign is Sign.AGENT_FAILED:
            self._conclude(FAILED, "guest.failed", words)
        else:
            state = ATTESTED if sign is Sign.AGENT_ATTESTED else BOOTED
            self._first(state, at)
            self._forward(state)

    def _forward(self, state: str) -> None:
        if (state == ATTESTED and not self.kind.attests) or (
            state == RUNNING and self.kind.attests != self.was_attested
        ):
            return
        if not self.decided and ORDER[state] > ORDER[self.state]:
            self.state = state

    def _conclude(self, state: str, code: str, reason: str) -> None:
        if not self.decided:
            self.state, self.code, self.reason = state, code, reason

    def _first(self, what: str, at: float) -> None:
        self.seconds.setdefault(what, round(at, 3))

    def _note(self, seen: Seen) -> None:
        if self.listener is not None:
            self.listener(seen)
        if len(self.events) < MAX_EVENTS:
            self.events.append(seen._replace(time=round(seen.time, 3)))


def _words(detail: dict[str, Any], otherwise: str) -> str:
    """The guest's message, with the reasons it was given."""
    message = detail.get("message")
    text = message if isinstance(message, str) and message else otherwise
    reasons = detail.get("reasons")
    if isinstance(reasons, list):
        text += "".join(f"\n  - {reason}" for reason in reasons[:64] if isinstance(reason, str))
    return text


def _meaning(words: str) -> str:
    from launcher.core.error_words import explain  # only a launch that failed pays for its patterns

    return "".join(f"; {item.cause}: {item.remedy}" for item in explain(words)[:1])

"""The life of a VM as a state machine: what it may say, what it can never undo, and when time is up."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.core.progress import MAX_EVENTS, MAX_OUTPUT, Kind, Progress
from launcher.core.states import ATTESTED, BOOTED, FAILED, REFUSED, RUNNING, STARTING, STOPPED
from launcher.core.status import StatusEvent
from launcher.core.timeouts import Budget

BUDGET = Budget(boot=30, attest=10)


def new(*, attests: bool = True) -> Progress:
    return Progress(Kind(attests, BUDGET))


def say(progress: Progress, event: str, at: float = 1.0, **detail: Any) -> None:
    progress.status(StatusEvent(event, at, detail), at)


def test_a_good_boot_goes_through_every_state() -> None:
    progress = new()
    states = [progress.state]
    progress.line("[    0.000000] Linux version 6.12", 1.0)
    for at, event in enumerate(("booted", "evidence", "attested", "unlocked", "payload-output", "running", "stopped")):
        say(progress, event, 2.0 + at, text="hello\n")
        states.append(progress.state)
    progress.qemu_ended(0, "", 9.0)
    assert states == [STARTING, BOOTED, BOOTED, ATTESTED, ATTESTED, ATTESTED, RUNNING, RUNNING]
    assert (progress.state, progress.output) == (STOPPED, "hello\n")
    assert progress.seconds["kernel"] == 1.0
    assert progress.seconds["attested"] == 4.0
    assert progress.was_attested


def test_a_refusal_is_final_whatever_the_guest_says_later() -> None:
    progress = new()
    say(progress, "booted")
    say(progress, "refused", message="denied", reasons=["measurement: expected aa, got bb", 7])
    for event in ("attested", "running", "failed"):
        say(progress, event)
    progress.qemu_ended(0, "", 3.0)
    assert progress.state == REFUSED
    assert progress.reason == "denied\n  - measurement: expected aa, got bb"


def test_a_guest_does_not_move_backwards() -> None:
    progress = new()
    say(progress, "attested")
    say(progress, "running")
    say(progress, "booted")
    assert progress.state == RUNNING


def test_a_vm_that_is_not_meant_to_attest_cannot_be_talked_into_it() -> None:
    progress = new(attests=False)
    say(progress, "attested")
    assert progress.state == STARTING
    assert not progress.was_attested
    assert "attested" not in progress.seconds


def test_a_guest_that_should_attest_does_not_run_before_it_has() -> None:
    progress = new()
    say(progress, "booted")
    say(progress, "running")
    assert progress.state == BOOTED
    progress.tick(12)
    assert progress.code == "launch.timeout"


def test_a_guest_that_attested_without_a_word_before_is_not_timed_out() -> None:
    progress = new()
    say(progress, "attested")
    progress.tick(1e6)
    assert progress.state == ATTESTED


def test_monitor_noise_a_guest_can_cause_is_not_remembered() -> None:
    progress = new()
    for _ in range(1000):
        progress.qemu_event("RTC_CHANGE", {"offset": 1}, 1.0)
    assert progress.events == []


def test_powering_off_before_attesting_is_a_failure() -> None:
    progress = new()
    say(progress, "booted")
    progress.qemu_ended(0, "", 2.0)
    assert (progress.state, progress.code) == (FAILED, "guest.failed")
    assert progress.reason == "the guest powered off before it had attested"


def test_without_attestation_powering_off_is_the_normal_end() -> None:
    progress = new(attests=False)
    progress.qemu_ended(0, "", 2.0)
    assert (progress.state, progress.reason) == (STOPPED, "the guest powered off")


def test_a_reboot_is_named_as_the_reason() -> None:
    progress = new()
    progress.qemu_event("SHUTDOWN", {"guest": True, "reason": "guest-reset"}, 1.0)
    progress.qemu_ended(0, "", 2.0)
    assert "asked for a reboot" in progress.reason


@pytest.mark.parametrize(("status", "how"), [(1, "status 1"), (-6, "signal 6")])
def test_qemus_own_failure_carries_its_words(status: int, how: str) -> None:
    progress = new()
    progress.qemu_ended(status, "vm-type SEV-SNP not supported by KVM", 0.1)
    assert progress.code == "qemu.failed"
    assert progress.reason.startswith(f"QEMU ended with {how}: vm-type SEV-SNP not supported by KVM; KVM here")


def test_a_silent_boot_runs_out_of_time() -> None:
    progress = new()
    progress.tick(29.9)
    assert progress.state == STARTING
    progress.tick(30.1)
    assert progress.code == "launch.timeout"
    assert "nothing was heard of a kernel" in progress.reason


def test_a_kernel_without_an_agent_is_told_from_no_kernel() -> None:
    progress = new()
    progress.line("[    0.000000] Linux version 6.12", 1.0)
    progress.tick(31)
    assert "the kernel started, the agent did not report" in progress.reason


def test_attestation_has_its_own_time_limit() -> None:
    progress = new()
    say(progress, "booted", 20.0)
    progress.tick(29.0)
    assert progress.state == BOOTED
    progress.tick(30.5)
    assert "is the service reachable?" in progress.reason


def test_after_attestation_nothing_times_out() -> None:
    progress = new()
    say(progress, "booted")
    say(progress, "attested")
    progress.tick(1e6)
    assert progress.state == ATTESTED


def test_a_guest_without_an_agent_is_taken_to_run() -> None:
    progress = new(attests=False)
    progress.tick(31)
    assert progress.state == RUNNING
    silent = new(attests=False)
    silent.line("[    0.000000] Linux version 6.12", 1.0)
    assert silent.state == BOOTED


def test_a_panic_on_the_console_ends_it() -> None:
    progress = new()
    progress.line("[    3.0] Kernel panic - not syncing: VFS: Unable to mount root fs", 4.0)
    progress.line("[    3.0] ---[ end Kernel panic - not syncing: VFS ]---", 4.0)
    assert progress.code == "guest.failed"
    assert "VFS: Unable to mount root fs" in progress.reason
    assert [seen.event for seen in progress.events].count("panic") == 1


def test_a_firmware_without_anything_to_boot_is_a_refusal_by_the_firmware() -> None:
    progress = new()
    progress.line("BdsDxe: No bootable option was found.", 1.0)
    progress.line("BdsDxe: No bootable option was found.", 1.0)
    assert progress.code == "firmware.refused-kernel"
    assert len([seen for seen in progress.events if seen.event == "firmware-refused"]) == 1


def test_a_guest_that_prints_the_firmwares_words_later_is_not_believed() -> None:
    progress = new()
    progress.line("[    0.000000] Linux version 6.12", 1.0)
    progress.line("BdsDxe: No bootable option was found.", 2.0)
    assert progress.state == STARTING


def test_the_console_speaks_for_an_agent_whose_port_is_silent() -> None:
    progress = new()
    progress.line("cvm: agent started", 1.0)
    progress.line("cvm: attested: the service says affirming", 2.0)
    assert progress.state == ATTESTED
    refused = new()
    refused.line("cvm: REFUSED by the service: measurement", 2.0)
    assert (refused.state, refused.reason) == (REFUSED, "REFUSED by the service: measurement")
    failed = new()
    failed.line("cvm: FAILED: no disk", 2.0)
    assert failed.state == FAILED


def test_the_console_is_ignored_once_the_port_speaks() -> None:
    progress = new()
    say(progress, "booted")
    progress.line("cvm: attested: the service says affirming", 2.0)
    assert progress.state == BOOTED


def test_a_dead_chip_ends_a_guest_that_has_not_attested() -> None:
    progress = new()
    progress.emulator_ended("killed", 1.0)
    assert progress.code == "emulator.failed"
    later = new()
    say(later, "attested")
    later.emulator_ended("killed", 1.0)
    assert later.state == ATTESTED


def test_what_a_guest_can_make_us_remember_is_bounded() -> None:
    progress = new()
    for number in range(MAX_EVENTS * 2):
        say(progress, "payload-output", float(number), text="x" * 1000)
    assert len(progress.events) == MAX_EVENTS
    assert len(progress.output) == MAX_OUTPUT


def test_a_stop_is_an_interruption_only_before_the_outcome() -> None:
    early = new()
    early.stopped_by_us("asked", 1.0)
    assert (early.state, early.interrupted) == (STOPPED, True)
    late = new()
    say(late, "refused", message="no")
    late.stopped_by_us("asked", 2.0)
    assert (late.state, late.interrupted) == (REFUSED, False)


def test_a_guest_panic_event_is_a_failure() -> None:
    progress = new()
    progress.qemu_event("GUEST_PANICKED", {"action": "poweroff"}, 2.0)
    assert progress.reason == "the guest panicked"

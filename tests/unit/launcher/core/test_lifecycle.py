"""When a VM that has ended is started again."""

from __future__ import annotations

from itertools import pairwise

import pytest

from launcher.core.boot_time import missing, stages
from launcher.core.lifecycle import ALWAYS, IN_PLACE, NEVER, ON_FAILURE, RELAUNCH, STOP, Ending, Lifecycle, Restarts

CRASH = Ending("failed", "failed", asked=False, lived=3.0)
WELL = Ending("attested", "stopped", asked=False, lived=3.0)


@pytest.mark.parametrize(
    ("restart", "ending", "again"),
    [
        (NEVER, CRASH, False),
        (NEVER, WELL, False),
        (ON_FAILURE, CRASH, True),
        (ON_FAILURE, WELL, False),
        (ALWAYS, CRASH, True),
        (ALWAYS, WELL, True),
        (ALWAYS, CRASH._replace(asked=True), False),
        (ALWAYS, Ending("refused", "refused", asked=False, lived=3.0), False),
        (ALWAYS, Ending("interrupted", "stopped", asked=False, lived=3.0), False),
    ],
)
def test_a_vm_is_started_again_only_as_its_owner_said(restart: str, ending: Ending, *, again: bool) -> None:
    assert (Restarts(Lifecycle(restart=restart)).after(ending) is not None) is again


def test_waits_double_up_to_their_bound_and_then_there_are_no_more() -> None:
    restarts = Restarts(Lifecycle(restart=ALWAYS, backoff=2, backoff_max=10, retries=5))
    assert [restarts.after(CRASH) for _ in range(6)] == [2.0, 4.0, 8.0, 10.0, 10.0, None]
    assert restarts.since == 5


def test_a_vm_that_was_up_long_enough_has_all_its_retries_again() -> None:
    restarts = Restarts(Lifecycle(restart=ALWAYS, backoff=1, retries=2, reset=60))
    assert [restarts.after(CRASH), restarts.after(CRASH), restarts.after(CRASH)] == [1.0, 2.0, None]
    assert restarts.after(CRASH._replace(lived=60.0)) == 1.0
    assert restarts.since == 3


def test_no_number_of_retries_makes_a_wait_that_overflows() -> None:
    restarts = Restarts(Lifecycle(restart=ALWAYS, backoff=86400, backoff_max=86400, retries=1000))
    assert {restarts.after(CRASH) for _ in range(1000)} == {86400.0}


def test_stages_of_a_boot_follow_each_other_without_gaps() -> None:
    seconds = {"qemu_ready": 0.1, "kernel": 4.0, "booted": 6.5, "attested": 7.0, "unlocked": 7.5, "running": 8.0}
    found = stages(seconds)
    assert [(stage.name, stage.seconds) for stage in found] == [
        ("qemu", 0.1), ("firmware", 3.9), ("kernel", 2.5), ("attested", 0.5), ("key", 0.5), ("ready", 0.5),
    ]  # fmt: skip
    assert all(before.end == after.begin for before, after in pairwise(found))
    assert missing(seconds) == ("evidence",)


def test_a_stage_that_was_seen_too_early_is_empty_and_never_negative() -> None:
    assert [stage.seconds for stage in stages({"kernel": 5.0, "booted": 4.0, "running": 6.0})] == [5.0, 0.0, 1.0]


REBOOT = WELL._replace(rebooted=True)


@pytest.mark.parametrize(
    ("on_reboot", "ending", "again"),
    [
        (STOP, REBOOT, False),
        (RELAUNCH, REBOOT, True),
        (IN_PLACE, REBOOT, True),
        (RELAUNCH, WELL, False),
        (RELAUNCH, REBOOT._replace(asked=True), False),
        (RELAUNCH, REBOOT._replace(outcome="refused"), False),
    ],
)
def test_a_guest_that_reboots_is_launched_again_only_as_its_owner_said(
    on_reboot: str, ending: Ending, *, again: bool
) -> None:
    assert (Restarts(Lifecycle(on_reboot=on_reboot)).after(ending) is not None) is again


def test_a_guest_that_reboots_for_ever_stays_down_in_the_end() -> None:
    restarts = Restarts(Lifecycle(on_reboot=RELAUNCH, retries=2))
    assert [restarts.after(REBOOT) for _ in range(3)] == [1.0, 2.0, None]

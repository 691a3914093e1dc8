"""An operator asks why a TD was refused and hears which event of its log differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attest.broker.explain_refusal import explain_refusal
from attest.broker.explain_td import TdExplained
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.store.errors import NotFound
from attest.verifier.eventlog import measured_events, replay_rtmrs
from policy.reference import ReferenceValue, reference_to_bytes
from policy.reference_tdx import FLAVOUR_EMULATED, SINGLE_PASS, TdRecipe
from policy.vocab import LaunchDigest, Platform
from tests.fakes.eventlogs import direct_boot_log
from tests.fakes.intel_pki import NOW, TD
from tests.unit.attest.broker.test_td_transcripts import TdWorld, refused

MRTD = LaunchDigest(bytes(TD["mrtd"]))


def register(world: TdWorld, name: str, log: bytes) -> None:
    """A reference value that predicts this log."""
    parsed = parse_event_log(log, CCEL)
    recipe = TdRecipe(bytes(32), SINGLE_PASS, FLAVOUR_EMULATED, (), 2 << 30, 2, measured_events(parsed))
    value = ReferenceValue(name, Platform.EMULATED_TDX, MRTD, NOW, recipe=recipe, rtmrs=replay_rtmrs(parsed))
    world.service.add_reference(reference_to_bytes(value))


def explained(world: TdWorld, log: bytes | None, reference: str | None = None, **fields: Any) -> TdExplained:
    """What is said about a TD that was refused with the registers of ``log``."""
    registers = replay_rtmrs(parse_event_log(log, CCEL)) if log else (b"\7" * 48,) * 3
    rtmrs: dict[str, Any] = {f"rtmr{index}": value for index, value in enumerate(registers)}
    error = refused(world.client(log=log, **rtmrs | fields).handshake)
    found = explain_refusal(world.service.database, error.information["decision"], [], reference=reference)
    assert isinstance(found, TdExplained)
    return found


@pytest.fixture
def world(tmp_path: Path) -> TdWorld:
    world = TdWorld(tmp_path / "td", None)
    register(world, "good", direct_boot_log())
    return world


@pytest.mark.parametrize(
    ("changed", "event", "index"),
    [
        (direct_boot_log(kernel=b"evil"), "application", 1),
        (direct_boot_log(cmdline="init=/bin/sh"), "load-options", 2),
        (direct_boot_log(initrd=b"evil"), "initrd", 2),
    ],
)
def test_the_event_that_differs_is_named(world: TdWorld, changed: bytes, event: str, index: int) -> None:
    found = explained(world, changed)
    assert (found.reference, found.outcome, found.registers) == ("good", "explained", (index,))
    assert [item.name for item in found.differences] == [event]
    assert found.text().startswith(f"same firmware; RTMR{index} event ")


def test_the_closest_reference_value_is_the_one_compared_with(world: TdWorld) -> None:
    register(world, "other", direct_boot_log(kernel=b"other"))
    changed = direct_boot_log(kernel=b"other", initrd=b"evil")
    assert explained(world, changed).reference == "other"
    assert explained(world, changed, "good").registers == (1, 2)


def test_another_firmware_is_told_as_such(world: TdWorld) -> None:
    found = explained(world, direct_boot_log(), mrtd=b"\7" * 48)
    assert (found.outcome, found.text()) == ("unexplained", "MRTD differs: another firmware")


def test_a_td_that_sent_no_log_stays_unexplained(world: TdWorld) -> None:
    found = explained(world, None)
    assert (found.outcome, found.registers, found.differences) == ("unexplained", (0, 1, 2), ())
    assert found.text().startswith("RTMR0, RTMR1, RTMR2: no log")


def test_a_refusal_for_another_reason_has_the_expected_registers(world: TdWorld) -> None:
    found = explained(world, direct_boot_log(), mrowner=b"\1" * 48)
    assert (found.outcome, found.text()) == ("same", "MRTD and every predicted RTMR are the expected ones")


def test_without_a_reference_value_of_that_name_there_is_nothing_to_compare_with(world: TdWorld) -> None:
    with pytest.raises(NotFound, match="none of a TD with a recipe"):
        explained(world, direct_boot_log(initrd=b"evil"), "gone")

"""A firmware's way with memory: looked at once, remembered by digest, warned of where it costs minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.core.capability import lazy_findings
from launcher.core.plan import make_plan
from launcher.io import firmware_accept
from launcher.io.firmware_accept import with_lazy
from policy.vocab import Platform
from tests.fakes.vm_files import AMDSEV, around, web_1
from tests.unit.ovmf.test_lazy_accept import MORE, SEV, volume


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "fw"


def test_each_platform_gets_its_own_answer(place: Path) -> None:
    place.write_bytes(volume(MORE))
    facts = AMDSEV._replace(path=str(place))
    assert with_lazy(facts, Platform.SEV_SNP).lazy is False
    assert with_lazy(facts, Platform.TDX).lazy is True


def test_an_image_is_looked_at_once_and_a_damaged_entry_is_made_anew(place: Path) -> None:
    place.write_bytes(volume(SEV))
    facts = AMDSEV._replace(path=str(place))
    assert with_lazy(facts, Platform.SEV_SNP).lazy is True
    place.write_bytes(b"gone: the digest stands for the contents")
    assert with_lazy(facts, Platform.SEV_SNP).lazy is True
    (entry,) = (place.parent / "cache/firmware").iterdir()
    for damaged in ("{", "[]", '{"schema":"cvm.firmware/1","snp":1,"td":false}', '{"snp":true,"td":true}'):
        entry.write_text(damaged)
        assert with_lazy(facts, Platform.SEV_SNP).lazy is False


def test_an_image_that_cannot_be_unpacked_leaves_it_open(place: Path) -> None:
    whole = bytearray(volume(SEV))
    whole[72 + 20 : 72 + 23] = b"\xff\xff\x7f"
    place.write_bytes(bytes(whole))
    assert with_lazy(AMDSEV._replace(path=str(place)), Platform.SEV_SNP).lazy is None


def test_a_cache_that_cannot_be_written_costs_time_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware_accept, "cache_place", lambda: "/proc/none")
    place.write_bytes(volume(SEV))
    assert with_lazy(AMDSEV._replace(path=str(place)), Platform.SEV_SNP).lazy is True


@pytest.mark.parametrize(("lazy", "warned"), [(False, True), (True, False), (None, False)])
def test_a_plan_warns_of_a_firmware_that_accepts_everything(lazy: bool | None, warned: bool) -> None:
    plan = make_plan(web_1()._replace(memory=64 << 30), around(firmware=AMDSEV._replace(lazy=lazy)))
    assert any("accepts all 64 GiB" in item.text for item in plan.warnings) is warned


def test_the_doctor_names_it_for_both_kinds_of_hardware_and_blocks_nothing() -> None:
    found = lazy_findings(AMDSEV._replace(lazy=True), AMDSEV._replace(lazy=False))
    assert [(item.id, item.state, bool(item.fix), item.blocks) for item in found] == [
        ("firmware.lazy-snp", "ok", False, ()), ("firmware.lazy-tdx", "warn", True, ()),
    ]  # fmt: skip
    assert lazy_findings(AMDSEV, None)[0].state == "warn"
    assert lazy_findings(None, None) == ()

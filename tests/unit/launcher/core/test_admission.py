"""Room on a host: memory that is promised counts, keys that are in use count; one thing missing per case."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.admission import KeySlots, Occupied, admission, key_slots
from launcher.core.cost import memory_cost
from launcher.core.hardware import Ram
from launcher.core.limits import overhead
from launcher.service.neighbours import occupied
from policy.vocab import Platform
from tests.fakes.vm_files import PLAIN, web_1

EMPTY = Occupied(0, {})
COST = memory_cost(Platform.SEV_SNP, 4 << 30).total


def test_a_protected_vm_fits_exactly_or_not_at_all() -> None:
    assert admission(web_1(), COST, EMPTY) == ()
    (found,) = admission(web_1(), COST, Occupied(1, {}))
    assert found.id == "admission.memory" and "4360 MiB wanted" in found.seen and found.blocks == ("sev-snp",)


def test_twice_the_memory_is_counted_twice() -> None:
    config = web_1()._replace(ram=Ram(prealloc=True, allow_double_memory=True))
    need = 2 * (4 << 30) + overhead(4 << 30)
    assert admission(config, need, EMPTY) == ()
    assert [item.id for item in admission(config, need - 1, EMPTY)] == ["admission.memory"]


def test_an_ordinary_vm_may_overcommit_unless_its_file_says_no() -> None:
    config = parse_vm(PLAIN.encode(), "x")
    assert admission(config, 1 << 20, EMPTY) == ()
    assert len(admission(config._replace(ram=Ram(overcommit=False)), 1 << 20, EMPTY)) == 1


@pytest.mark.parametrize(("used", "blocked"), [(98, False), (99, True)])
def test_the_last_key_can_be_had_and_no_further_one(used: int, blocked: bool) -> None:
    found = admission(web_1(), 1 << 50, Occupied(0, {"sev_es": (99, used)}))
    assert [item.id for item in found] == (["admission.keys"] if blocked else [])
    assert admission(web_1("tdx"), 1 << 50, Occupied(0, {"sev_es": (99, used)})) == ()


def test_a_protected_vm_needs_one_key_and_an_ordinary_one_none() -> None:
    there = Occupied(0, {"sev_es": (99, 3)})
    assert key_slots(web_1(), there) == KeySlots("sev_es", 99, 3)
    assert key_slots(web_1("tdx"), there) == KeySlots("tdx", None, None)
    assert key_slots(parse_vm(PLAIN.encode(), "x"), there) is None
    assert key_slots(web_1("emulated-snp"), there) is None


def test_keys_are_read_as_the_kernel_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVM_STATE", str(tmp_path / "state"))
    top = tmp_path / "sys/fs/cgroup"
    top.mkdir(parents=True)
    (top / "misc.capacity").write_text("sev 410\nsev_es 99\n")
    (top / "misc.current").write_text("sev 0\nsev_es 3\n")
    assert occupied("x", tmp_path).keys == {"sev": (410, 0), "sev_es": (99, 3)}

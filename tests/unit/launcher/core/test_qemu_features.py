"""What is asked of a QEMU by name: where the options come from, and what is told when something is not there."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.core.capability import findings
from launcher.core.plan import Surroundings, make_plan
from launcher.core.qemu_answers import Answers, devices_to_ask, newest_machine, present
from launcher.core.qemu_features import (
    FEATURES,
    IGVM,
    MONITOR_OBJECT,
    PLATFORM_NEEDS,
    PROTECTED_RESET,
    Capabilities,
    needed,
)
from launcher.core.vm import VmConfig
from launcher.errors import QmpMalformed
from launcher.io.qemu_file import SHIPPED, shipped
from policy.vocab import Platform
from tests.fakes.vm_files import AMDSEV, around, host, qemu, web_1
from tests.unit.launcher.core.test_argv import CASES


def _with(features: frozenset[str], *version: int) -> Surroundings:
    facts = qemu(*version)
    return around(qemu=facts._replace(can=facts.can._replace(features=features)))


def _less(*missing: str) -> Surroundings:
    return _with(qemu().can.features - set(missing))


def test_options_follow_what_qemu_reports_and_not_its_version() -> None:
    old_words = make_plan(web_1(), _less(MONITOR_OBJECT)).options
    assert "chardev=qmp0,mode=control" in old_words
    new_words = make_plan(web_1(), _with(qemu().can.features, 10, 1, 0)).options
    assert "-mon" not in new_words


def test_the_machine_is_the_newest_the_binary_has() -> None:
    names = ["pc-q35-questing", "pc-q35-9.2", "q35", "pc-q35-10.1", "pc-i440fx-11.0", "pc-q35-10.0"]
    assert newest_machine([{"name": name} for name in names]) == "pc-q35-10.1"
    for wrong in ([{"name": "virt-10.1"}], [], {}, "pc-q35-10.1", [1]):
        with pytest.raises(QmpMalformed, match="query-machines"):
            newest_machine(wrong)


@pytest.mark.parametrize("series", SHIPPED)
def test_a_shipped_file_says_what_qemus_documents_say(series: str) -> None:
    known = shipped(series)
    documented = {name for name, since in FEATURES.items() if since is not None and since <= known.version}
    assert known.features == documented - {IGVM}
    assert known.machine == f"pc-q35-{series}"
    assert known.version_text == series


@pytest.mark.parametrize("name", CASES)
def test_what_a_vm_needs_is_asked_of_qemu(name: str) -> None:
    config = CASES[name][0]
    assert {feature for _, feature in needed(config)} <= FEATURES.keys()


def _needs() -> list[Any]:
    wanted: dict[str, VmConfig] = {}
    for config, _ in CASES.values():
        for _, feature in needed(config):
            wanted.setdefault(feature, config)
    del wanted[PROTECTED_RESET]  # refused before
    return [pytest.param(feature, config, id=feature) for feature, config in wanted.items()]


@pytest.mark.parametrize(("feature", "config"), _needs())
def test_a_qemu_without_that_feature_is_named(feature: str, config: VmConfig) -> None:
    surroundings = next(place for known, place in CASES.values() if known == config)
    facts = surroundings.qemu._replace(can=qemu().can)
    less = facts._replace(can=facts.can._replace(features=facts.can.features - {feature}))
    whole = {item.seen for item in make_plan(config, surroundings._replace(qemu=facts)).blockers}
    found = [item for item in make_plan(config, surroundings._replace(qemu=less)).blockers if item.seen not in whole]
    assert [(item.id, item.seen) for item in found] == [("qemu.lacks", f"QEMU 11.1.3 has no {feature}")]


@pytest.mark.parametrize("platform", PLATFORM_NEEDS)
def test_each_thing_the_hardware_needs_of_qemu_blocks_its_platform_alone(platform: Platform) -> None:
    own = set(PLATFORM_NEEDS[platform]) - {
        name for other in PLATFORM_NEEDS if other is not platform for name in PLATFORM_NEEDS[other]
    }
    for feature in own:
        found = findings(host(snp=True), _less(feature).qemu, AMDSEV)
        missing = [item for item in found if item.id.startswith("qemu") and item.state == "missing"]
        assert [(item.id, item.blocks) for item in missing] == [(f"qemu.{platform.value}", (platform.value,))]
        assert feature in missing[0].seen
    assert not [item for item in findings(host(), qemu(), AMDSEV) if item.id.startswith("qemu.") and item.state != "ok"]


def test_a_feature_that_nobody_asks_for_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="object:sev-snp"):
        Capabilities((1,), "", frozenset(), "").has("object:sev-snp")


def _answers(**changes: object) -> Answers:
    """The least that QEMU's answers consist of."""
    schema = [
        {"name": "object-add", "meta-type": "command", "arg-type": "0"},
        {"name": "0", "variants": [{"case": "sev-snp-guest", "type": "1"}]},
        {"name": "1", "members": [{"name": "policy"}]},
        {"name": "blockdev-add", "meta-type": "command", "arg-type": "2"},
        {"name": "2", "variants": [{"case": "file", "type": "3"}]},
        {"name": "3", "members": [{"name": "aio", "type": "4"}]},
        {"name": "4", "members": [{"name": "threads"}]},
        {"name": "netdev_add", "meta-type": "command", "arg-type": "5"},
        {"name": "5", "variants": [{"case": "stream", "type": "1"}]},
    ]
    usual = Answers(
        schema, [{"name": "nvme"}, {"name": "ram-block-attributes"}],
        [{"option": "run-with", "parameters": [{"name": "user"}]}],
        {"vfio-pci": [{"name": "iommufd"}]}, [{"name": "memory-backend"}],
    )  # fmt: skip
    return usual._replace(**changes)


def test_features_are_read_from_where_their_name_says() -> None:
    assert present(_answers()) == {
        "object:sev-snp-guest", "object:sev-snp-guest.policy", "blockdev:file", "aio:threads", "netdev:stream",
        "device:nvme", "type:ram-block-attributes", "option:run-with.user", "device:vfio-pci.iommufd",
        "machine:memory-backend",
    }  # fmt: skip


@pytest.mark.parametrize("part", Answers._fields)
@pytest.mark.parametrize("wrong", [None, 7, [1], [{}], {"x": [{}]}], ids=repr)
def test_answers_of_another_shape_are_refused(part: str, wrong: object) -> None:
    with pytest.raises(QmpMalformed, match="schema"):
        present(_answers(**{part: wrong}))


def test_only_devices_with_a_property_that_matters_are_asked() -> None:
    assert "vfio-pci" in devices_to_ask()
    assert "nvme" not in devices_to_ask()

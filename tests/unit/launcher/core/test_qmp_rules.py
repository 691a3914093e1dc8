"""What passes to a VM's monitor: one command per case, for a confidential VM and an ordinary one."""

from __future__ import annotations

import pytest

from launcher.core.qmp_rules import refusal
from policy.vocab import Platform

CONFIDENTIAL = [platform for platform in Platform if platform is not Platform.NONE]
REFUSED = {
    "sev-inject-launch-secret": "qmp.launch-secret",
    "migrate": "qmp.migration",
    "migrate-set-parameters": "qmp.migration",
    "snapshot-save": "qmp.migration",
    "dump-guest-memory": "qmp.memory",
    "memsave": "qmp.memory",
    "pmemsave": "qmp.memory",
    "screendump": "qmp.memory",
    "human-monitor-command": "qmp.memory",
    "x-query-roms": "qmp.memory",
    "send-key": "qmp.input",
    "input-send-event": "qmp.input",
    "inject-nmi": "qmp.input",
    "set_password": "qmp.input",
    "ringbuf-read": "qmp.input",
    "add_client": "qmp.input",
    "qom-get": "qmp.objects",
    "qom-list-get": "qmp.objects",
    "device_add": "qmp.change",
    "object-add": "qmp.change",
    "blockdev-del": "qmp.change",
    "qom-set": "qmp.change",
    "a-command-of-a-later-qemu": "qmp.change",
}


@pytest.mark.parametrize("platform", CONFIDENTIAL)
@pytest.mark.parametrize("command", REFUSED)
@pytest.mark.parametrize("change", [True, False])
def test_a_confidential_vm_is_asked_only_and_each_refusal_has_its_reason(
    command: str, platform: Platform, change: bool
) -> None:
    found = refusal(command, platform, change=change)
    assert found is not None
    assert (found.id, bool(found.why)) == (REFUSED[command], True)


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("command", ["query-status", "query-block", "query-qmp-schema", "query-sev"])
def test_questions_pass_for_every_vm(command: str, platform: Platform) -> None:
    assert refusal(command, platform, change=False) is None


@pytest.mark.parametrize("platform", Platform)
@pytest.mark.parametrize("command", ["quit", "stop", "cont", "system_reset", "set-action", "getfd"])
def test_what_a_verb_does_never_passes(command: str, platform: Platform) -> None:
    found = refusal(command, platform, change=True)
    assert found is not None
    assert found.id == "qmp.verb"


@pytest.mark.parametrize("command", ["device_add", "qom-get", "screendump", "block_resize"])
def test_an_ordinary_vms_owner_must_say_that_it_is_meant(command: str) -> None:
    found = refusal(command, Platform.NONE, change=False)
    assert found is not None
    assert found.id == "qmp.asked"
    assert refusal(command, Platform.NONE, change=True) is None


@pytest.mark.parametrize("command", ["migrate", "migrate_cancel", "snapshot-load", "x-colo-migrate"])
def test_an_ordinary_vm_is_never_moved_behind_its_launchers_back(command: str) -> None:
    found = refusal(command, Platform.NONE, change=True)
    assert found is not None
    assert found.id == "qmp.migration"


@pytest.mark.parametrize("command", ["", "Query-status", "query status", "query-\n", "q" * 90, "query-é"])
def test_a_name_that_is_none_is_refused(command: str) -> None:
    found = refusal(command, Platform.NONE, change=True)
    assert found is not None
    assert found.id == "qmp.name"

"""Roles of single operators: declared in the settings, limited to resources and VMs, named in refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attest.audit.record import Actor
from attest.settings import SettingsInvalid, load_settings
from attest.settings_roles import Duty, Role, fits
from attest.web.duties import DutyMissing, Roles
from tests.fakes.served import Served, attest_command
from tests.fakes.service_world import OPERATOR, PATH, PKI, ServiceWorld
from tests.unit.attest.web.test_auditors_served import send
from tests.unit.attest.web.test_revoked_served import change, reload

WEB = Role("web", (Duty.KEYS, Duty.APPROVAL, Duty.VMS), ("olga",), (), ("default/web-*/*",), ("web-*",))


@pytest.mark.parametrize(
    ("pattern", "text", "good"),
    [
        ("default/web-1/root", "default/web-1/root", True),
        ("default/web-1/root", "default/web-1/root2", False),
        ("default/web-*/root", "default/web-1/root", True),
        ("default/web-*/root", "default/db-1/root", False),
        ("default/*/*", "default/web-1/root", True),
        ("default/*", "default/web-1/root", False),
        ("*/*/*", "default/web-1/root", True),
        ("web-*", "web-1", True),
        ("web-*", "db-1", False),
    ],
)
def test_a_pattern_is_compared_part_by_part_and_whole(pattern: str, text: str, good: bool) -> None:
    assert fits(pattern, text) is good


def test_a_role_limited_to_some_resources_and_vms_ends_there(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    client = world.admin_app_for(lambda environ, now: OPERATOR, Roles((WEB,))).test_client()
    assert client.post(f"/cvm/v0/approval/{PATH}").status_code == 409, "allowed, but nothing asks for one"
    refused = client.post("/cvm/v0/approval/default/db-1/root")
    assert (refused.status_code, refused.json["detail"]) == (
        403,
        'this takes the duty "approval" for default/db-1/root: olga has keys (default/web-*/*), approval '
        "(default/web-*/*), vms (web-*)",
    )
    assert client.post("/kbs/v0/resource/default/web-2/root", data=b"x").status_code == 200
    assert client.post("/kbs/v0/resource/default/db-2/root", data=b"x").status_code == 403
    assert client.delete("/cvm/v0/vm/web-1?reason=x").status_code == 404, "allowed, but nothing is known of it"
    assert client.delete("/cvm/v0/vm/db-1?reason=x").status_code == 403
    assert client.post("/cvm/v0/rewrap").status_code == 403, "of every resource at once"
    linked = client.post(f"/cvm/v0/link/{PATH}?kv-path=db-1/root&field=key")
    assert linked.status_code == 403, "of whatever secret the service can read"
    assert client.get("/cvm/v0/resource/default/db-1/root").status_code == 404, "operators read as auditors do"


def test_what_several_roles_allow_is_added_up_but_never_mixed() -> None:
    other = Role("db", (Duty.EXPORT,), ("olga",), (), ("default/db-1/*",))
    roles = Roles((WEB, other))
    names = {"repository": "default", "kind": "db-1", "tag": "root"}
    roles.check(Duty.EXPORT, OPERATOR, names)
    for duty, kind in ((Duty.EXPORT, "web-1"), (Duty.KEYS, "db-1")):
        with pytest.raises(DutyMissing):
            roles.check(duty, OPERATOR, names | {"kind": kind})


def test_a_group_of_the_provider_gives_a_role_to_whoever_has_it() -> None:
    roles = Roles((Role("policies", (Duty.POLICY,), groups=("kbs-policy",)),))
    roles.check(Duty.POLICY, Actor("operator", "paula", groups=("ops", "kbs-policy")), {})
    with pytest.raises(DutyMissing, match="paula has none"):
        roles.check(Duty.POLICY, Actor("operator", "paula", groups=("ops",)), {})


ROLE = '\n[[server.role]]\nname = "web"\nmembers = ["olga"]\nmay = ["keys"]\n'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('may = ["keys"]', 'may = ["keys", "key"]', "may: got key, want some of keys, approval"),
        ('may = ["keys"]', "may = []", "may: got none"),
        ('members = ["olga"]', "", "otherwise nobody has it"),
        ('may = ["keys"]', 'may = ["policy"]\nresources = ["a/b/c"]', "resources: means nothing without one of keys"),
        ('may = ["keys"]', 'may = ["keys"]\nvms = ["web-1"]', "vms: means nothing without one of vms"),
        ('may = ["keys"]', 'may = ["keys"]\nresources = ["default/*"]', "want REPOSITORY/KIND/TAG"),
        ('may = ["keys"]', 'may = ["keys"]\nresources = ["default/*-1/*"]', "want REPOSITORY/KIND/TAG"),
        ('may = ["keys"]', 'may = ["keys"]\nresources = []', "resources: got none"),
        ('may = ["keys"]', 'may = ["vms"]\nvms = ["*b"]', "want NAME"),
        ('members = ["olga"]', 'groups = ["ops"]', "makes nobody an operator"),
        ("\n[[server.role]]", f"{ROLE}[[server.role]]", '"web" is there twice'),
        ('may = ["keys"]', 'may = ["keys"]\nmaybe = 1', "maybe: unknown key"),
    ],
)
def test_a_role_that_is_not_what_it_looks_like_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    served = Served(tmp_path / "service").init(PKI)
    assert old in ROLE
    change(served, "\n[store]", f"{ROLE.replace(old, new, 1)}\n[store]")
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(served.config)
    assert said in caught.value.message


def test_roles_come_with_a_reload_are_on_record_and_told_to_who_asks(tmp_path: Path) -> None:
    served = Served(tmp_path / "service").init(PKI, "--operator", "olga").start()
    try:
        service = (
            "--service", f"https://localhost:{served.admin_port}", "--ca", str(served.folder / "ca.pem"),
            "--certificate", str(served.folder / "operator.pem"), "--key", str(served.folder / "operator.key"),
        )  # fmt: skip
        assert "may   keys, approval" in attest_command("whoami", *service).out
        change(served, "\n[store]", f'{ROLE}resources = ["default/web-*/*"]\n[store]')
        reload(served)
        said = attest_command("whoami", *service).out.splitlines()
        assert said == [
            "kind         operator",
            "name         olga",
            "role web     keys",
            "  resources  default/web-*/*",
        ]
        assert send(served, "operator", "POST", "/kbs/v0/resource/default/web-1/root", b"x").status == 200
        refused = attest_command("key", "generate", "default/db-1/root", *service)
        assert (refused.code, refused.out) == (3, "")
        assert 'this takes the duty "keys" for default/db-1/root: olga has keys (default/web-*/*)' in refused.err
        changes = json.loads(served.attest("audit", "ask", "changes", "--json").out)["answer"]
        assert "role web" in json.dumps([found for found in changes if found["kind"] == "roles-change"])
    finally:
        served.stop()

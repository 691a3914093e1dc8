"""A VM file with init-data: the launch is bound to it, the plan says so, and nothing that is measured depends on it."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.argv.shown import without_tee
from launcher.core.confinement import confinement
from launcher.core.difference import SHOWN, settings_changed
from launcher.core.init_data import bound, init_data_members
from launcher.core.moving import FILE, Named, named_files
from launcher.core.plan import LaunchPlan, make_plan
from launcher.core.vm import VmConfig
from launcher.errors import VmConfigInvalid
from launcher.io.hashing import FileUnreadable
from launcher.service.init_data import read_init_data
from launcher.service.vm_file import resolve
from policy.initdata import MAX_BYTES, Identity, parse_init_data, rtmr3_after, write_init_data
from tests.fakes.vm_files import GENERIC, PLAIN, WEB_1, around

PLATFORMS = ("sev-snp", "emulated-snp", "tdx", "emulated-tdx")


def config(table: str, platform: str = "sev-snp", folder: str = "/vms") -> VmConfig:
    text = WEB_1.format(platform=platform)
    text = text.replace("EPYC-v4", "host") if platform == "tdx" else text
    return resolve(parse_vm((text + table).encode(), "web-1.toml"), folder)


def planned(table: str, platform: str = "sev-snp", folder: str = "/vms") -> tuple[VmConfig, LaunchPlan]:
    vm = config(table, platform, folder)
    found = read_init_data(vm)
    vm = bound(vm, found)
    firmware = {"firmware": GENERIC} if "tdx" in platform else {}
    return vm, make_plan(vm, around(init_data=found, **firmware))


def register(plan: LaunchPlan) -> bytes:
    """What the hardware, or the emulator, is told to show."""
    if plan.emulator is not None:
        return plan.emulator.host_data
    if plan.td_emulator is not None:
        return plan.td_emulator.settings.mrconfigid
    guest = next(json.loads(word) for word in plan.options if '"cgs0"' in word and "qom-type" in word)
    return b64decode(guest["mrconfigid" if "mrconfigid" in guest else "host-data"])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_launch_is_bound_to_the_text_the_guest_is_handed(platform: str) -> None:
    vm, plan = planned("[init_data]\n", platform)
    assert plan.init_data is not None
    text = plan.init_data.text.encode()
    digest = hashlib.sha384(text).digest() if "tdx" in platform else hashlib.sha256(text).digest()
    assert register(plan) == digest
    assert parse_init_data(text).identity == Identity("web-1")
    assert ("-fw_cfg", "name=opt/org.cvm/init-data,file=init-data.toml") in list(pairwise(plan.options))
    assert "cvm.initdata=required" in (plan.spec.cmdline or "")
    (said,) = [item for item in plan.decisions if item.what == "init-data"]
    assert said.value == f"{plan.init_data.algorithm}:{digest.hex()}"
    assert said.reason.startswith("VM web-1; written by cvm; ") and "holds the digest" in said.reason
    members = init_data_members(vm, plan.init_data)
    assert members is not None
    assert (members["digest"], members["value"], members["vm"]) == (digest.hex(), digest.hex(), "web-1")
    assert members["rtmr3"] == (rtmr3_after(digest).hex() if "tdx" in platform else None)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_two_vms_of_one_image_measure_alike_and_are_told_apart_by_the_register(platform: str) -> None:
    plans = [planned(f'[init_data]\nvm = "{name}"\n', platform)[1] for name in ("a", "b")]
    assert plans[0].spec.cmdline == plans[1].spec.cmdline
    assert [plan.measure and plan.measure.cmdline for plan in plans] == [plans[0].measure and plans[0].spec.cmdline] * 2
    assert register(plans[0]) != register(plans[1])


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_vm_without_init_data_is_launched_as_ever(platform: str) -> None:
    _, plan = planned("", platform)
    assert not any(register(plan))
    assert "-fw_cfg" not in plan.options
    assert "initdata" not in (plan.spec.cmdline or "")
    assert not any(item.what == "init-data" for item in plan.decisions)


def test_an_owners_own_host_data_stays_what_it_was() -> None:
    _, plan = planned(f'[snp]\nhost_data = "{"ab" * 32}"\n')
    assert register(plan) == b"\xab" * 32


def test_a_file_is_taken_as_it_is_with_the_algorithm_it_names(tmp_path: Path) -> None:
    text = write_init_data("sha512", Identity("db", "shop", ("default/db/root",)))
    (tmp_path / "db.toml").write_bytes(text)
    vm, plan = planned('[init_data]\nfile = "db.toml"\n', "tdx", str(tmp_path))
    assert register(plan) == hashlib.sha512(text).digest()[:48]
    assert Named(str(tmp_path / "db.toml"), FILE) in named_files(vm)
    (said,) = [item for item in plan.decisions if item.what == "init-data"]
    assert said.reason.startswith("VM db, service shop, 1 resource(s); ")


BAD = [
    ("altered beyond TOML", b"algorithm = ", "not TOML"),
    ("an algorithm nobody knows", write_init_data("sha256", Identity()).replace(b"sha256", b"md5"), "algorithm 'md5'"),
    ("another version", write_init_data("sha256", Identity()).replace(b"0.1.0", b"9"), "version '9'"),
    ("a VM with no name", write_init_data("sha256", Identity("a")).replace(b'"a"', b'""'), "vm: want a name"),
]


@pytest.mark.parametrize(("text", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_file_no_guest_would_take_is_refused_before_anything_starts(tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "text").write_bytes(text)
    with pytest.raises(VmConfigInvalid, match=f"text: init-data: .*{said}"):
        planned('[init_data]\nfile = "text"\n', folder=str(tmp_path))


def test_a_file_that_is_missing_or_too_large_is_named(tmp_path: Path) -> None:
    table = '[init_data]\nfile = "text"\n'
    with pytest.raises(FileUnreadable, match=r"init-data: .*/text: No such file"):
        planned(table, folder=str(tmp_path))
    (tmp_path / "text").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(FileUnreadable, match=f"more than {MAX_BYTES} bytes"):
        planned(table, folder=str(tmp_path))


WRONG = [
    ("file and names", '[init_data]\nfile = "x"\nvm = "a"\n', "$.init_data.vm: stands in the file"),
    ("a bad name", '[init_data]\nvm = "-a"\n', "$.init_data.vm: got '-a'"),
    ("an empty service", '[init_data]\nservice = ""\n', "$.init_data.service: got ''"),
    ("a bad resource", '[init_data]\nresources = ["a/b"]\n', "$.init_data.resources: resource 'a/b'"),
    ("its own disk's key left out", "[init_data]\nresources = []\n", "$.init_data.resources: lacks default/web-1/root"),
    ("an unknown key", "[init_data]\nresource = []\n", "$.init_data.resource: unknown key (did you mean"),
    ("its register taken", f'[init_data]\n[snp]\nhost_data = "{"ab" * 32}"\n', "$.snp.host_data: is where the digest"),
]


@pytest.mark.parametrize(("table", "said"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_table_with_one_thing_wrong_is_refused(table: str, said: str) -> None:
    with pytest.raises(VmConfigInvalid) as caught:
        config(table)
    (problem,) = caught.value.problems
    assert problem.startswith(said)


def test_a_tds_register_is_not_taken_twice_either() -> None:
    with pytest.raises(VmConfigInvalid, match=r"\$\.tdx\.mrconfigid: is where the digest"):
        config(f'[init_data]\n[tdx]\nmrconfigid = "{"ab" * 48}"\n', "emulated-tdx")


def test_an_ordinary_vm_and_one_that_asks_nobody_have_no_init_data() -> None:
    with pytest.raises(VmConfigInvalid) as caught:
        parse_vm((PLAIN + "[init_data]\n").encode(), "plain.toml")
    assert [text.partition(":")[0] for text in caught.value.problems] == ["$.init_data", "$.init_data"]


def test_a_td_that_boots_from_a_disk_has_the_text_and_its_disk_the_order() -> None:
    text = WEB_1.format(platform="emulated-tdx")
    direct = "".join(
        line for line in text.splitlines(True) if not line.startswith(("kernel =", "initrd =", "cmdline ="))
    )
    vm = parse_vm((direct + "[init_data]\n").encode(), "web-1.toml")
    found = read_init_data(vm)
    plan = make_plan(bound(vm, found), around(init_data=found, firmware=GENERIC))
    assert any(register(plan)) and "-fw_cfg" in plan.options and plan.spec.cmdline is None
    (said,) = [item for item in plan.decisions if item.what == "init-data"]
    assert said.reason.endswith("the disk's own command line must say cvm.initdata=required")


def test_the_prediction_looks_for_no_file_and_the_jail_lets_qemu_read_it() -> None:
    vm, plan = planned("[init_data]\n", "tdx")
    assert "-fw_cfg" not in without_tee(plan.options)
    assert ("init-data.toml", "read") in confinement(vm.isolation, plan.spec, plan.qemu).files


def test_another_text_is_shown_by_the_evidence_and_not_measured() -> None:
    before, after = (planned(f'[init_data]\nvm = "{name}"\n')[0] for name in ("a", "b"))
    assert {item.what: item.effect for item in settings_changed(before, after)} == {
        "init_data.vm": SHOWN,
        "snp.host_data": SHOWN,
    }

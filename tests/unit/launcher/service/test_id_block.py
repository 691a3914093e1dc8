"""A VM file with an ID block: QEMU gets it, and one the chip would refuse is refused before the launch."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.plan import make_plan
from launcher.core.vm import guest_policy
from launcher.errors import PlanRefused, VmConfigInvalid
from launcher.service.id_block import check_id_block, read_id_block
from launcher.service.vm_file import resolve
from ovmf.errors import IdBlockInvalid
from ovmf.id_block import IdBlock, sign_id_block
from policy.fixed import LaunchDigest
from tests.fakes.vm_files import WEB_1, around, web_1
from tests.unit.ovmf.keys import private_key

DIGEST = LaunchDigest(b"D" * 48)
TABLE = '[snp]\nid_block = "b"\nid_auth = "a"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    block = IdBlock(DIGEST, policy=guest_policy(web_1().snp))
    (tmp_path / "b").write_bytes(block.to_bytes())
    (tmp_path / "a").write_bytes(sign_id_block(block, private_key(1), private_key(2)).to_bytes())
    return tmp_path


def config(folder: Path, platform: str = "sev-snp"):  # type: ignore[no-untyped-def]
    return resolve(parse_vm((WEB_1.format(platform=platform) + TABLE).encode(), "vm.toml"), str(folder))


def test_qemu_gets_the_files_the_vm_names(folder: Path) -> None:
    vm = config(folder)
    assert (vm.snp.id_block, vm.snp.id_auth) == (str(folder / "b"), str(folder / "a"))
    plan = make_plan(vm, around(id_block=read_id_block(vm.snp)))
    guest = next(json.loads(word) for word in plan.options if '"sev-snp-guest"' in word)
    assert b64decode(guest["id-block"]) == (folder / "b").read_bytes()
    assert b64decode(guest["id-auth"]) == (folder / "a").read_bytes()
    assert guest["author-key-enabled"] is True
    assert any(item.what == "ID block" for item in plan.decisions)


def test_without_one_nothing_about_it_is_said() -> None:
    assert read_id_block(web_1().snp) is None
    assert not any("id-block" in word for word in make_plan(web_1(), around()).options)


def test_a_block_for_another_launch_is_refused_with_the_remedy(folder: Path) -> None:
    vm = config(folder)
    files = read_id_block(vm.snp)
    assert files is not None
    check_id_block(files, DIGEST, guest_policy(vm.snp))
    with pytest.raises(PlanRefused, match="launch digest") as other:
        check_id_block(files, LaunchDigest(b"E" * 48), guest_policy(vm.snp))
    with pytest.raises(PlanRefused, match="guest policy") as refused:
        check_id_block(files, DIGEST, guest_policy(vm.snp._replace(debug=True)))
    assert "--policy b0000" in (refused.value.hint or "")
    assert (other.value.code, refused.value.code) == ("snp.id-block-digest", "snp.id-block-policy")


def test_a_block_that_nobody_signed_is_refused(folder: Path) -> None:
    (folder / "b").write_bytes(IdBlock(DIGEST, guest_svn=9).to_bytes())
    with pytest.raises(IdBlockInvalid):
        read_id_block(config(folder).snp)


def test_the_emulated_chip_is_not_said_to_check_it(folder: Path) -> None:
    with pytest.raises(PlanRefused, match="checks no ID block"):
        make_plan(config(folder, "emulated-snp"), around())


def test_one_file_without_the_other_is_a_mistake_in_the_vm_file() -> None:
    with pytest.raises(VmConfigInvalid) as refused:
        parse_vm((WEB_1.format(platform="sev-snp") + '[snp]\nid_block = "b"\n').encode(), "vm.toml")
    assert any("come together" in problem for problem in refused.value.problems)

"""The agent beside the payload, in a real guest: a program inside uses the REST interface and a secret file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attest.attester.disk import read_header
from launcher.io.cachedir import cache_folder
from policy.luks_header import check_luks_header, header_digest
from tests.e2e.demo_snp import SnpDemo
from tests.e2e.story import Narrator
from tests.e2e.world import World

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]
DISK = "default/demo/root"
PASSWORD = b"a password of the database"

LASTING = """\
api = ["resource", "token", "evidence"]
reattest = 10

[[guest.secret]]
name = "password"
resource = "default/demo/password"
uid = 65534
gid = 65534
mode = "0440"
"""
PROGRAM = """\
#!/usr/bin/python3
import hashlib, json, os, time, urllib.request

def get(path):
    with urllib.request.urlopen("http://127.0.0.1:8006" + path, timeout=60) as answer:
        return answer.read()

path = "/run/cvm/secrets/password"
info = os.stat(path)
answer = json.loads(get("/aa/token?token_type=kbs"))
token = answer["token"]
found = {
    "file": hashlib.sha256(open(path, "rb").read()).hexdigest(),
    "mode": oct(info.st_mode & 0o7777), "owner": [info.st_uid, info.st_gid],
    "resource": hashlib.sha256(get("/cdh/resource/default/demo/password")).hexdigest(),
    "token": sorted(answer),
    "report_data": bytes(json.loads(get("/aa/evidence?runtime_data=hello"))["attestation_report"]["report_data"]).hex(),
}
print("FOUND " + json.dumps(found), flush=True)
for _ in range(1000):  # the timer's attestation brings a token of its own, and the file anew
    if json.loads(get("/aa/token?token_type=kbs"))["token"] != token and os.stat(path).st_mtime_ns != info.st_mtime_ns:
        print("AGAIN", flush=True)
        break
    time.sleep(0.1)
"""


class ResidentDemo(SnpDemo):
    """The demo's VM with lasting orders, its answers proven by the pinned key."""

    def disk(self) -> None:
        """The demo's disk with another program."""
        original = self.world.run

        def run(*argv: str, **more: object) -> object:
            if argv[:3] == ("cvm", "disk", "create"):
                (self.world.folder / "content" / "hello").write_text(PROGRAM)
            return original(*argv, **more)  # type: ignore[arg-type]

        self.world.run = run  # type: ignore[method-assign,assignment]
        super().disk()
        self.world.run = original  # type: ignore[method-assign]

    def write_vm(self, name: str, **more: object) -> str:
        """The demo's file and the lasting orders."""
        file = super().write_vm(name, **more)  # type: ignore[arg-type]
        path = self.world.folder / file
        pin = (self.world.folder / "service" / "answer.pin").read_text().strip()
        text = (
            path.read_text().replace("[guest]\n", "[guest]\n@", 1).replace('ca.pem"\n', f'ca.pem"\npins = ["{pin}"]\n')
        )
        head, _, tail = text.partition("@")
        run, _, rest = tail.partition("[attestation]")
        path.write_text(f"{head}{run.rstrip()}\n{LASTING}\n[attestation]{rest}")
        return file


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    image = cache_folder() / "image"
    if not (image / "manifest.json").is_file():
        pytest.skip("no guest image in the cache: `make test` builds it")
    made = World(tmp_path, image)
    yield made
    made.close()


def replaced_in_the_guest(before: dict[str, Any], after: dict[str, Any], demo: SnpDemo) -> None:
    """The same boot replaced the disk's key: a keyslot came and one went, on a virtio disk under the real agent."""
    assert (before["version"], after["version"], after["disk"]["rotation"]) == (1, 2, None)
    (old,), (new,) = before["disk"]["headers"], after["disk"]["headers"]
    data = read_header(demo.world.folder / "demo.img")
    header = check_luks_header(data)
    assert old != new == header_digest(data, header)
    assert [slot.number for slot in header.slots] == [1]
    steps = [record["outcome"] for record in demo.records() if record["kind"] == "key-rotation"]
    assert steps == ["started", "staged", "confirmed", "staged", "finished"]
    of_vm = demo.world.run(
        "attest", "audit", "list", "--kind", "key-rotation", "--vm", "demo", "--json", "--config", "service/attest.toml"
    )  # fmt: skip
    assert [record["outcome"] for record in of_vm.json()["records"]] == steps[1:]


def test_a_program_in_the_guest_uses_interface_and_file_and_the_guest_attests_again(world: World) -> None:
    demo = ResidentDemo(world, Narrator(quiet=True))
    for step in (demo.tools, demo.service, demo.disk):
        step()
    config = ("--config", "service/attest.toml")
    world.run("attest", "key", "put", "default/demo/password", *config, stdin=PASSWORD)
    demo.measure()
    before = world.run("attest", "key", "show", DISK, "--json", *config).json()
    world.run("attest", "key", "rotate", DISK, *config)
    result = world.run("cvm", "launch", "demo.toml", "--json").json()
    replaced_in_the_guest(before, world.run("attest", "key", "show", DISK, "--json", *config).json(), demo)
    output = result["payload_output"]
    assert "FOUND " in output, json.dumps(result)[:3000]
    found = json.loads(output.partition("FOUND ")[2].splitlines()[0])
    import hashlib

    digest = hashlib.sha256(PASSWORD).hexdigest()
    assert found == {
        "file": digest, "mode": "0o440", "owner": [65534, 65534], "resource": digest,
        "token": ["tee_keypair", "token"], "report_data": b"hello".hex().ljust(128, "0"),
    }  # fmt: skip
    decisions = [record for record in demo.records() if record["kind"] == "decision"]
    assert "AGAIN" in output
    assert len(decisions) >= 3  # at boot, for the interface, on the timer
    assert {record["verdict"] for record in decisions} == {"affirming"}

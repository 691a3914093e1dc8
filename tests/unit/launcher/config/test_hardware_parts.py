"""``[cpu]``'s shape, ``[placement]``, ``[ram]``, ``[[numa]]``, ``[devices]``, ``[[passthrough]]``, ``[[share]]``: one
thing wrong each.
"""

from __future__ import annotations

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.hardware import NumaNode, Passthrough, Placement, Ram, Share
from launcher.core.vm import VmConfig
from launcher.errors import VmConfigInvalid
from tests.fakes.vm_files import PLAIN


def parsed(more: str) -> VmConfig:
    return parse_vm((PLAIN + more).encode(), "plain.toml")


def test_every_value_arrives() -> None:
    config = parsed(
        """[cpu]
count = 4
threads = 2
features = ["+avx2"]
[placement]
vcpus = ["2-3"]
io = "0"
emulator = "0-1"
mems = "0"
smt_isolation = true
[ram]
huge_pages = "2MiB"
prealloc = true
balloon = true
overcommit = false
max = "1GiB"
slots = 2
[[numa]]
cpus = "0-3"
memory = "512MiB"
host = 0
[[passthrough]]
address = "0000:01:00.0"
"""
    )
    assert (config.cpu.sockets, config.cpu.threads, config.cpu.features) == (1, 2, ("+avx2",))
    assert config.placement == Placement(False, ("2-3",) * 4, "0", "0-1", "0", smt_isolation=True)
    assert config.ram == Ram(2 << 20, prealloc=True, balloon=True, overcommit=False, max=1 << 30, slots=2)
    assert config.numa == (NumaNode("0-3", 512 << 20, 0),)
    assert config.passthrough == (Passthrough("0000:01:00.0"),)


WRONG = {
    "[cpu]\ncount = 4\nthreads = 3": "$.cpu.threads: got 3, want a divisor of count = 4",
    "[cpu]\ncount = 4\nsockets = 4\nthreads = 2": "$.cpu.threads: count = 4 is not sockets × cores × threads",
    '[cpu]\nfeatures = ["avx2"]': "$.cpu.features: got 'avx2', want \"+name\"",
    '[cpu]\nfeatures = ["+a,kvm=off"]': "$.cpu.features: got '+a,kvm=off'",
    '[placement]\nvcpus = ["x"]': "$.placement.vcpus: got 'x'",
    '[cpu]\ncount = 3\n[placement]\nvcpus = ["1", "2"]': "$.placement.vcpus: got 2 lists, want one for each of 3 vCPUs",
    '[placement]\nauto = true\nmems = "0"': "$.placement.auto: chooses vcpus and mems by itself",
    "[placement]\nl3_ways = 33": "$.placement.l3_ways: got 33, want 0 (all) to 32",
    '[placement]\nemulator = "3-1"': "$.placement.emulator: got '3-1'",
    '[ram]\nhuge_pages = "4KiB"': "$.ram.huge_pages",
    '[ram]\nhuge_pages = "1GiB"': "$.ram.huge_pages: memory is not a multiple of 1024 MiB",
    '[ram]\nmax = "512MiB"': "$.ram.max: want more than memory",
    '[ram]\nmax = "513MiB"': "$.ram.max: want more than memory, by a multiple of 128 MiB",
    '[ram]\ngrow = "virtio-mem"': "$.ram.grow: needs max",
    '[ram]\nmax = "1GiB"\ngrow = "balloon"': "$.ram.grow",
    '[ram]\nhuge_pages = "1GiB"\nmax = "640MiB"': "$.ram.max: what it grows by is not a multiple of 1024 MiB",
    "[ram]\nslots = 0": "$.ram.slots: got 0, want 1 to 256",
    '[[numa]]\ncpus = "0"\nmemory = "256MiB"': "$.numa: the nodes have 256 MiB together, want memory = 512 MiB",
    '[[numa]]\ncpus = "0-1"\nmemory = "512MiB"': "$.numa: want every one of the 1 vCPUs in exactly one node",
    '[[numa]]\ncpus = "0"\nmemory = "512MiB"\nhost = -1': "$.numa[0].host: got -1",
    '[devices]\nvideo = "qxl"': "$.devices.video",
    '[[passthrough]]\naddress = "01:00.0"': "$.passthrough[0].address: got '01:00.0'",
    '[[passthrough]]\naddress = "0000:01:00.0,x=y"': "$.passthrough[0].address: got '0000:01:00.0,x=y'",
    '[[passthrough]]\naddress = "0000:01:00.0"\nvf_token = "x"': "$.passthrough[0].vf_token: got 'x', want a UUID",
    '[[passthrough]]\naddress = "0000:01:00.0"\n[[passthrough]]\naddress = "0000:01:00.0"': "0000:01:00.0 is there twice",
    '[[share]]\ntag = "x"': "$.share[0].path: missing",
    '[[share]]\npath = "/x"': "$.share[0].tag: missing",
    '[[share]]\npath = "/x"\ntag = "a,b"': "$.share[0].tag: got 'a,b', want 1 to 35",
    f'[[share]]\npath = "/x"\ntag = "{"a" * 36}"': "want 1 to 35",
    '[[share]]\npath = "/x"\ntag = "a"\n[[share]]\npath = "/y"\ntag = "a"': "$.share[1].tag: a is there twice",
    "\n".join(f'[[share]]\npath = "/x"\ntag = "t{number}"' for number in range(9)): "9 shares, want at most 8",
}


def test_a_share_is_read_only_unless_said_otherwise() -> None:
    config = parsed('[[share]]\npath = "a"\ntag = "x"\n[[share]]\npath = "/b"\ntag = "y"\nreadonly = false\n')
    assert config.shares == (Share("a", "x"), Share("/b", "y", readonly=False))


@pytest.mark.parametrize("more", WRONG)
def test_one_wrong_thing_is_named(more: str) -> None:
    with pytest.raises(VmConfigInvalid) as caught:
        parsed(f"{more}\n")
    assert WRONG[more] in caught.value.message


def test_an_ordinary_vm_may_have_the_hosts_processor_and_a_measured_one_not() -> None:
    assert parsed('[cpu]\nmodel = "host"\n').cpu.model == "host"
    with pytest.raises(VmConfigInvalid, match="makes the launch digest depend on the host"):
        parse_vm((PLAIN.replace("none", "sev-snp") + '[cpu]\nmodel = "host"\n').encode(), "x")

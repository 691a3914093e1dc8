"""``[isolation]`` and ``[limits]`` in a VM file."""

from __future__ import annotations

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.confinement_settings import IsolationSettings
from launcher.core.limits import Limits, overhead
from launcher.errors import VmConfigInvalid
from tests.fakes.vm_files import PLAIN


def _parse(text: str) -> tuple[IsolationSettings, Limits]:
    config = parse_vm((PLAIN + text).encode(), "vm.toml")
    return config.isolation, config.limits


def test_without_the_tables_everything_possible_is_enforced_and_nothing_limited() -> None:
    assert _parse("") == (IsolationSettings("auto", "auto"), Limits())


def test_every_key_is_read() -> None:
    text = """
[isolation]
mode = "strict"
user = "64000"
[limits]
cpu_weight = 200
cpu_max = 150
cpus = "0-3,8"
memory_min = "512MiB"
memory_high = "1GiB"
memory_max = "2GiB"
io_weight = 10
pids = 300
key_slots = true
"""
    limits = Limits(200, 150, "0-3,8", 512 << 20, 1 << 30, 2 << 30, 10, 300, key_slots=True)
    assert _parse(text) == (IsolationSettings("strict", 64000), limits)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[isolation]\nmode = "most"', "isolation.mode"),
        ('[isolation]\nuser = "root"', "isolation.user"),
        ('[isolation]\nuser = "0"', "isolation.user"),
        ('[isolation]\nuser = "99999999999999999999"', "isolation.user"),
        ("[isolation]\nnetwork = false", "isolation.network"),
        ("[limits]\ncpu_weight = 0", "limits.cpu_weight"),
        ("[limits]\ncpu_max = -1", "limits.cpu_max"),
        ("[limits]\npids = 1", "limits.pids"),
        ('[limits]\ncpus = "0-"', "limits.cpus"),
        ('[limits]\nmemory_min = "much"', "limits.memory_min"),
        ('[limits]\nio_weight = "5"', "limits.io_weight"),
    ],
)
def test_a_wrong_value_is_a_problem_with_its_path(text: str, problem: str) -> None:
    with pytest.raises(VmConfigInvalid, match=problem.replace(".", r"\.")):
        _parse(text)


def test_a_memory_limit_that_would_kill_qemu_is_refused_with_the_number_it_takes() -> None:
    need = -(-((512 << 20) + overhead(512 << 20)) >> 20)
    with pytest.raises(VmConfigInvalid, match=f"at least {need} MiB"):
        _parse('[limits]\nmemory_max = "600MiB"')

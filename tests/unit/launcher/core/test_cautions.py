"""What a plan warns of because of its host, its limits or what the guest says aloud: one cause per case."""

from __future__ import annotations

import pytest

from launcher.cli.failures import report
from launcher.config.vm_toml import parse_vm
from launcher.core.cost import cost_of
from launcher.core.limits import Limits, settings
from launcher.core.plan import LaunchPlan, Surroundings, make_plan
from launcher.core.vm import Disk, SnpSettings, VmConfig
from launcher.errors import PlanRefused, VmConfigInvalid
from policy.vocab import Platform
from tests.fakes.vm_files import GENERIC, PLAIN, around, host, web_1


def _plain(more: str) -> VmConfig:
    return parse_vm((PLAIN + more).encode(), "plain.toml")


def _warned(plan: LaunchPlan, word: str) -> bool:
    return any(word in item.text for item in plan.warnings)


def _place(platform: str, **changes: object) -> Surroundings:
    return around(host=host(snp=True, **changes), **({"firmware": GENERIC} if "tdx" in platform else {}))


@pytest.mark.parametrize(("platform", "warned"), [("sev-snp", True), ("tdx", True), ("emulated-snp", False)])
def test_a_console_is_a_channel_to_the_host_of_a_vm_that_is_protected(platform: str, warned: bool) -> None:
    assert _warned(make_plan(web_1(platform), _place(platform)), "[guest] console = false") is warned


def test_a_vm_without_a_console_says_nothing_and_is_measured_so() -> None:
    config = web_1()
    silent = config._replace(guest=config.guest._replace(console=False), boot=config.boot._replace(cmdline="quiet"))
    plan = make_plan(silent, around())
    assert not _warned(plan, "console")
    assert "console=null" in str(plan.spec.cmdline).split()
    assert "console=ttyS0" not in str(plan.spec.cmdline)
    for words in ("console=null", "quiet console="):
        own = config._replace(boot=config.boot._replace(cmdline=words))
        assert not _warned(make_plan(own, around()), "[guest] console")
    early = config._replace(boot=config.boot._replace(cmdline="console=null earlyprintk=ttyS0"))
    assert _warned(make_plan(early, around()), "[guest] console")


@pytest.mark.parametrize("value", ["1", "2"])
@pytest.mark.parametrize("platform", ["sev-snp", "tdx"])
def test_balancing_memory_over_nodes_is_warned_of_where_pages_cannot_move(value: str, platform: str) -> None:
    plan = make_plan(web_1(platform), _place(platform, numa_balancing=value))
    assert _warned(plan, f"kernel.numa_balancing = {value}: private pages")
    for quiet in ("0", None):
        assert not _warned(make_plan(web_1(platform), _place(platform, numa_balancing=quiet)), "numa_balancing")


def test_of_ordinary_vms_only_a_placed_one_is_warned_about_balancing() -> None:
    busy = around(firmware=None, host=host(numa_balancing="1"))
    assert not _warned(make_plan(_plain(""), busy), "numa_balancing")
    assert _warned(make_plan(_plain('[placement]\nemulator = "0"\n'), busy), "placed VM's memory")


def test_a_vm_that_runs_when_nothing_else_does_is_written_so_and_warned_of() -> None:
    config = _plain("[limits]\ncpu_idle = true\n")
    assert [(item.file, item.value) for item in settings(config.limits, Platform.NONE)] == [("cpu.idle", "1")]
    assert _warned(make_plan(config, around(firmware=None)), "limits.cpu_idle")
    with pytest.raises(VmConfigInvalid, match="cpu_idle: excludes cpu_weight"):
        _plain("[limits]\ncpu_idle = true\ncpu_weight = 50\n")


def test_bus_locks_are_counted_by_kvm_and_not_enforced_without_it() -> None:
    config = _plain("[limits]\nbus_locks = 50\n")
    counted = make_plan(config, around(firmware=None))
    assert "bus-lock-ratelimit=50" in counted.options[counted.options.index("-machine") + 1]
    assert not _warned(counted, "bus_locks")
    emulated = make_plan(config, around(firmware=None, host=host(kvm=False)))
    assert "bus-lock-ratelimit" not in " ".join(emulated.options)
    assert _warned(emulated, "limits.bus_locks: not enforced")


def test_bounce_buffers_are_words_of_the_measured_command_line_and_of_the_cost() -> None:
    config = web_1()
    sized = config._replace(guest=config.guest._replace(swiotlb=256 << 20))
    plan = make_plan(sized, around())
    assert "swiotlb=131072" in str(plan.spec.cmdline).split()
    assert plan.measure is not None
    assert ("bounce buffers", "256 MiB") in {item[:2] for item in plan.decisions}
    assert cost_of(sized).bounce == 256 << 20
    assert cost_of(sized).shared == 256 << 20
    assert cost_of(config).bounce != 256 << 20


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('swiotlb = "64MiB"', "no wish at all"),
        ('swiotlb = "100KiB"', "whole MiB"),
        ('swiotlb = "0MiB"', "1MiB to 64GiB"),
        ('swiotlb = "65GiB"', "1MiB to 64GiB"),
        ('swiotlb = "much"', "whole MiB"),
        ("swiotlb = 7", "swiotlb"),
        ('swiotlb = "400MiB"', "at most half of the memory"),
        ("console = 1", "console"),
    ],
)
def test_one_wrong_word_about_the_guests_kernel_is_refused(line: str, said: str) -> None:
    with pytest.raises(VmConfigInvalid, match=said):
        _plain(f"[guest]\n{line}\n")


def test_what_the_command_line_says_already_is_not_said_twice() -> None:
    for cmdline, line, where in (
        ("swiotlb=1024", 'swiotlb = "8MiB"', "guest.swiotlb"),
        ("console=ttyS0", "console = false", "guest.console"),
        ("earlycon", "console = false", "guest.console"),
    ):
        text = PLAIN.replace("[boot]", f'[boot]\ncmdline = "{cmdline}"') + f"[guest]\n{line}\n"
        with pytest.raises(VmConfigInvalid, match=where):
            parse_vm(text.encode(), "plain.toml")


@pytest.mark.parametrize("line", ['swiotlb = "8MiB"', "console = false"])
def test_words_for_a_kernel_need_one(line: str) -> None:
    text = f'schema = 1\nname = "p"\nplatform = "none"\nmemory = "512MiB"\n[[disk]]\npath = "d"\n[guest]\n{line}\n'
    with pytest.raises(VmConfigInvalid, match="there is no kernel"):
        parse_vm(text.encode(), "plain.toml")


def test_every_caution_has_its_own_id_and_one_line() -> None:
    busy = _place("tdx", numa_balancing="1", cpus=1)
    tdx = web_1("tdx")
    config = tdx._replace(tdx=tdx.tdx._replace(quote_socket="vsock:2:4050"), limits=Limits(cpu_idle=True))
    found = make_plan(config, busy).warnings
    assert [item.id for item in found] == [
        "cpu.overcommitted", "guest.console", "tdx.quote-vsock", "numa.balancing", "limits.cpu-idle"
    ]  # fmt: skip
    assert all(item.shown == f"{item.text} [{item.id}]" and "\n" not in item.shown for item in found)
    unix = tdx._replace(tdx=tdx.tdx._replace(quote_socket="unix:/run/qgs"))
    assert not _warned(make_plan(unix, busy), "quote_socket")


@pytest.mark.parametrize(
    ("config", "surroundings", "code"),
    [
        (web_1()._replace(disks=(Disk("/d", "d", format="luks"),)), around(), "storage.luks-on-host"),
        (web_1()._replace(disks=(Disk("/d", "d", cache="unsafe"),)), around(), "storage.unsafe-cache"),
        (web_1()._replace(accel="tcg"), around(), "accel.tcg"),
        (web_1(), around(firmware=GENERIC), "firmware.no-hash-table"),
        (web_1("tdx"), around(), "firmware.no-td-metadata"),
        (web_1()._replace(boot=web_1().boot._replace(cmdline="x" * 2048)), around(), "kernel.cmdline-length"),
    ],
)
def test_a_refusal_has_an_id_for_programs_and_shows_it_to_people(
    config: VmConfig, surroundings: Surroundings, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PlanRefused) as caught:
        make_plan(config, surroundings)
    assert caught.value.code == code
    assert report(caught.value, as_json=False) == 3
    assert f"[{code}]" in capsys.readouterr().err
    assert report(caught.value, as_json=True) == 3
    assert f'"{code}"' in capsys.readouterr().err


def test_a_vlek_alone_is_asked_of_qemu_and_warned_of_and_no_emulated_chips() -> None:
    config = web_1()._replace(snp=SnpSettings(vcek_disabled=True))
    plan = make_plan(config, around())
    assert "snp.vcek-disabled" in {item.id for item in plan.warnings}
    assert any('"vcek-disabled":true' in word for word in plan.options)
    with pytest.raises(PlanRefused) as caught:
        make_plan(web_1("emulated-snp")._replace(snp=SnpSettings(vcek_disabled=True)), around())
    assert caught.value.code == "snp.vcek-emulated"

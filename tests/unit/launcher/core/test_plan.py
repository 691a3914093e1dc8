"""Planning: decisions, refusals, what keeps a host from running it, and what is measured."""

from __future__ import annotations

from base64 import b64encode

import pytest

from launcher.config.vm_toml import parse_vm
from launcher.core.capability import blockers, findings, smt_agrees
from launcher.core.cmdline import LIMIT, compose
from launcher.core.facts import VIRTIOFSD
from launcher.core.hardware import Ram
from launcher.core.lifecycle import IN_PLACE, Lifecycle
from launcher.core.plan import LaunchPlan, make_plan
from launcher.core.refusals import OptionsRefused
from launcher.core.timeouts import budget
from launcher.core.vm import Boot, SnpSettings, TdxSettings, td_attributes
from launcher.errors import PlanRefused
from policy.vocab import Platform
from tests.fakes.vm_files import AMDSEV, CA_DER, GENERIC, PLAIN, around, host, qemu, web_1


def value(plan: LaunchPlan, what: str) -> str:
    return next(item.value for item in plan.decisions if item.what == what)


def reason(plan: LaunchPlan, what: str) -> str:
    return next(item.reason for item in plan.decisions if item.what == what)


def test_every_decision_has_a_reason() -> None:
    for platform in ("sev-snp", "emulated-snp"):
        plan = make_plan(web_1(platform), around())
        assert all(item.what and item.value and item.reason for item in plan.decisions)


def test_an_snp_host_blocks_nothing_and_a_plain_one_names_everything() -> None:
    assert make_plan(web_1(), around()).blockers == ()
    plan = make_plan(web_1(), around(host=host(kvm=False)))
    assert [item.id for item in plan.blockers] == ["snp.cpu", "snp.kvm", "snp.device"]
    assert all(item.fix for item in plan.blockers)


def test_the_emulated_platform_runs_anywhere() -> None:
    assert make_plan(web_1("emulated-snp"), around(host=host(kvm=False))).blockers == ()


def test_a_dev_kvm_that_cannot_work_means_emulation_and_the_reason_is_told() -> None:
    plain = host()
    broken = plain._replace(kvm=plain.kvm._replace(problem="neither svm nor vmx"))
    plan = make_plan(web_1("emulated-snp"), around(host=broken))
    assert plan.spec.accel == "tcg"
    assert reason(plan, "accelerator") == "neither svm nor vmx"
    assert make_plan(web_1("emulated-snp"), around(host=plain)).spec.accel == "kvm"


def test_the_accelerator_can_be_chosen_but_not_for_real_hardware() -> None:
    chosen = web_1("emulated-snp")._replace(accel="tcg")
    assert make_plan(chosen, around()).spec.accel == "tcg"
    with pytest.raises(PlanRefused, match="SEV-SNP is a feature of KVM"):
        make_plan(web_1()._replace(accel="tcg"), around())


def test_a_firmware_that_cannot_measure_a_kernel_is_refused_before_anything_starts() -> None:
    plain = AMDSEV._replace(path="/fw/OVMF.fd", hash_table_gpa=None, measures_kernel=False)
    with pytest.raises(PlanRefused, match=r"/fw/OVMF\.fd: no measured section"):
        make_plan(web_1(), around(firmware=plain))
    with pytest.raises(PlanRefused, match="none found"):
        make_plan(web_1(), around(firmware=None))


def test_the_emulated_chip_starts_vcpus_with_one_set_of_features_only() -> None:
    config = web_1("emulated-snp")._replace(snp=SnpSettings(guest_features=0x21))
    with pytest.raises(PlanRefused, match="guest_features"):
        make_plan(config, around())


def test_the_c_bit_comes_from_the_host_or_is_said_to_be_assumed() -> None:
    assert reason(make_plan(web_1(), around()), "c-bit").startswith("CPUID")
    assumed = make_plan(web_1(), around(host=host(kvm=False)))
    assert value(assumed, "c-bit") == "51"
    assert "did not say" in reason(assumed, "c-bit")


def test_what_is_measured_follows_from_the_plan() -> None:
    plan = make_plan(web_1(), around())
    assert plan.measure is not None
    assert (plan.measure.firmware, plan.measure.vcpus, plan.measure.cpu_model) == ("/fw/OVMF.amdsev.fd", 4, "EPYC-v4")
    assert plan.measure.cmdline == plan.spec.cmdline
    assert make_plan(parse_vm(PLAIN.encode(), "x"), around(firmware=None)).measure is None


def test_debug_migration_and_open_ports_are_warned_about() -> None:
    config = web_1()._replace(snp=SnpSettings(debug=True, migrate_ma=True), memory=100 << 30)
    config = config._replace(
        net=config.net._replace(forward=(config.net.forward[0]._replace(host="0.0.0.0"),)) if config.net else None
    )
    text = "\n".join(item.shown for item in make_plan(config, around(host=host(snp=True, cpus=2))).warnings)
    for word in ("can decrypt", "migration agent", "102400 MiB asked for", "4 vCPUs on 2", "open to the network"):
        assert word in text
    silent = web_1()._replace(boot=web_1().boot._replace(cmdline="console=null"))
    assert make_plan(silent, around()).warnings == ()


@pytest.mark.parametrize("platform", ["sev-snp", "emulated-snp", "tdx"])
def test_a_pinned_firmware_is_taken_and_no_other(platform: str) -> None:
    config = web_1(platform)
    surroundings = around(firmware=GENERIC) if platform == "tdx" else around()
    there = surroundings.firmware
    assert there is not None
    pinned = config._replace(boot=config.boot._replace(firmware_sha256=there.sha256))
    assert make_plan(pinned, surroundings).options == make_plan(config, surroundings).options
    with pytest.raises(PlanRefused, match=f"{there.path}, sha256 {'ef' * 32}, want sha256 {there.sha256}") as caught:
        make_plan(pinned, surroundings._replace(firmware=there._replace(sha256="ef" * 32)))
    assert caught.value.code == "firmware.pinned"


def test_a_pin_without_a_firmware_file_is_refused() -> None:
    config = parse_vm(f'{PLAIN}firmware_sha256 = "{"ab" * 32}"\n'.encode(), "plain.toml")
    with pytest.raises(PlanRefused, match="got no firmware file, want sha256 abab"):
        make_plan(config, around(firmware=None))


def test_the_emulated_chip_gets_the_same_policy_and_host_data() -> None:
    config = web_1("emulated-snp")._replace(snp=SnpSettings(debug=True, host_data=bytes(range(32))))
    plan = make_plan(config, around())
    assert plan.emulator is not None
    assert (plan.emulator.policy, plan.emulator.host_data) == (0xB0000, bytes(range(32)))
    assert plan.emulator.state == "/state/.emulated-chip"
    assert make_plan(config._replace(emulator_state="/chip"), around()).emulator.state == "/chip"  # type: ignore[union-attr]


def test_the_command_line_carries_the_orders_in_a_fixed_form() -> None:
    config = web_1("emulated-snp")._replace(guest=web_1().guest._replace(run="/app/start", poweroff=True))
    words = compose(config, CA_DER).text.split()
    assert words == [
        "console=ttyS0", "root=/dev/mapper/root", "cvm.service=https://kbs.example",
        f"cvm.ca={b64encode(CA_DER).decode()}", "cvm.disk=root:default/web-1/root", "cvm.net=10.0.2.15/24,10.0.2.2,10.0.2.3",
        "cvm.run=/app/start", "cvm.evidence=emulated", "cvm.poweroff=1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://127.0.0.1:8443", "https://10.0.2.2:8443"),
        ("https://localhost", "https://10.0.2.2"),
        ("https://[::1]:8443", "https://10.0.2.2:8443"),
        ("https://kbs.example:8443", "https://kbs.example:8443"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_a_service_on_this_host_is_named_as_the_guest_sees_it(url: str, inside: str) -> None:
    config = web_1()
    line = compose(config._replace(attestation=config.attestation._replace(service=url)), CA_DER)  # type: ignore[union-attr]
    assert f"cvm.service={inside} " in line.text
    assert ("service", inside) in [choice[:2] for choice in line.choices]


def test_a_console_is_added_only_where_none_is_named() -> None:
    config = parse_vm(PLAIN.encode(), "x")
    assert compose(config, None).text == "console=ttyS0"
    named = config._replace(boot=config.boot._replace(cmdline="console=hvc0 quiet"))
    assert compose(named, None).text == "console=hvc0 quiet"


NO_NAMES = "initcall_blacklist=trace_eval_init"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("", f"console=ttyS0 loglevel=6 cryptomgr.notests {NO_NAMES}"),
        ("quiet", f"quiet console=ttyS0 cryptomgr.notests {NO_NAMES}"),
        ("fips=1", f"fips=1 console=ttyS0 loglevel=6 {NO_NAMES}"),
        ("cryptomgr.notests=0", f"cryptomgr.notests=0 console=ttyS0 loglevel=6 {NO_NAMES}"),
        ("trace_event=sched", "trace_event=sched console=ttyS0 loglevel=6 cryptomgr.notests"),
        ("initcall_blacklist=x", "initcall_blacklist=x console=ttyS0 loglevel=6 cryptomgr.notests"),
    ],
)
def test_a_light_kernel_leaves_out_what_only_costs_time_unless_its_owner_says_so(written: str, text: str) -> None:
    light = parse_vm(PLAIN.encode(), "x")._replace(light=True)
    line = compose(light._replace(boot=light.boot._replace(cmdline=written)), None)
    assert line.text == text
    assert len(line.choices) == len(set(text.split()) - set(written.split()))


@pytest.mark.parametrize(
    ("written", "added"),
    [
        ("", "memhp_default_state=online memory_hotplug.online_policy=auto-movable"),
        ("memhp_default_state=offline", "memory_hotplug.online_policy=auto-movable"),
        ("memory_hotplug.online_policy=contig-zones", "memhp_default_state=online"),
    ],
)
def test_a_kernel_that_may_get_more_memory_keeps_its_own_out_of_it_unless_its_owner_says_so(
    written: str, added: str
) -> None:
    plain = parse_vm(PLAIN.encode(), "x")
    config = plain._replace(boot=plain.boot._replace(cmdline=written), ram=Ram(max=8 << 30))
    line = compose(config, None)
    assert line.text == f"{written} console=ttyS0 {added}".strip()
    assert ("memory hot-plug" in [choice[0] for choice in line.choices]) == ("auto-movable" in added)
    assert "hotplug" not in compose(plain, None).text


def test_a_command_line_the_kernel_would_cut_is_refused_with_its_size() -> None:
    config = web_1()._replace(boot=Boot("auto", "/k", None, "x" * 1900))
    with pytest.raises(PlanRefused, match=rf"of which the CA certificate takes 348, want at most {LIMIT}"):
        compose(config, CA_DER)


def test_time_grows_with_memory_where_it_is_accepted_eagerly_and_with_emulation() -> None:
    small, large = (budget(gib << 30, 1, accel="kvm", eager_memory=True).boot for gib in (1, 1024))
    assert large > small + 1000
    many = {vcpus: budget(32 << 30, vcpus, accel="kvm", eager_memory=True, td=True).boot for vcpus in (64, 248)}
    assert many[64] > 50
    assert many[248] > 680
    assert budget(1 << 30, 1, accel="tcg", eager_memory=False).boot > 100
    assert budget(1 << 40, 1, accel="kvm", eager_memory=False).boot < 100


def test_doctor_tells_a_missing_toolchain_from_an_old_one() -> None:
    nothing = findings(host(), None, None)
    assert {item.id for item in blockers(nothing, Platform.NONE)} == {"qemu"}
    assert {item.id for item in blockers(nothing, Platform.EMULATED_SNP)} == {"qemu", "firmware"}
    old = findings(host(), qemu(10, 0, 2), AMDSEV)
    assert blockers(old, Platform.NONE) == ()
    assert {item.id for item in blockers(old, Platform.EMULATED_SNP)} == {"qemu"}


def test_little_memory_and_no_cgroups_are_warnings_not_blockers() -> None:
    found = {item.id: item for item in findings(host(memory_available=1 << 30, cgroup_v2=False), qemu(), AMDSEV)}
    assert found["memory"].state == "warn"
    assert found["cgroup"].state == "warn"
    assert all(not found[name].blocks for name in ("memory", "cgroup", "kvm"))


def test_a_td_is_not_planned_where_it_could_never_start() -> None:
    with pytest.raises(PlanRefused, match="no TDX metadata"):
        make_plan(web_1("tdx"), around())
    with pytest.raises(PlanRefused, match="none found"):
        make_plan(web_1("emulated-tdx"), around(firmware=None))
    with pytest.raises(PlanRefused, match="TDX is a feature of KVM"):
        make_plan(web_1("tdx")._replace(accel="tcg"), around(firmware=GENERIC))
    with pytest.raises(PlanRefused, match="a TD has no ID block"):
        make_plan(web_1("tdx")._replace(snp=SnpSettings(id_block="/b", id_auth="/a")), around(firmware=GENERIC))
    enrolled = GENERIC._replace(path="/fw/ms.fd", secure_boot=True)
    with pytest.raises(PlanRefused, match="carries no signature"):
        make_plan(web_1("tdx"), around(firmware=enrolled))
    assert make_plan(web_1("tdx"), around(firmware=enrolled, kernel_signed=True)).spec.firmware == "/fw/ms.fd"


def test_a_host_without_tdx_is_told_what_it_lacks() -> None:
    plan = make_plan(web_1("tdx"), around(firmware=GENERIC))
    assert [item.id for item in plan.blockers] == ["tdx.cpu", "tdx.kvm"]
    capable = host()
    capable = capable._replace(
        flags=capable.flags | {"tdx_host_platform"}, kvm=capable.kvm._replace(vm_types=0x21), tdx="Y"
    )
    assert make_plan(web_1("tdx"), around(firmware=GENERIC, host=capable)).blockers == ()
    old = make_plan(web_1("tdx"), around(firmware=GENERIC, host=capable, qemu=qemu(10, 0, 2)))
    assert [item.id for item in old.blockers] == ["qemu.tdx"]


def test_an_emulated_td_needs_a_tpm_in_software_and_nothing_else() -> None:
    surroundings = around(firmware=GENERIC, host=host(kvm=False))
    assert make_plan(web_1("emulated-tdx"), surroundings).blockers == ()
    without = make_plan(web_1("emulated-tdx"), surroundings._replace(swtpm=False))
    assert [item.id for item in without.blockers] == ["swtpm"]


def test_a_tds_choices_are_told_and_stand_in_every_quote() -> None:
    config = web_1("tdx")._replace(tdx=TdxSettings(perfmon=True, mrowner=b"\7" * 48, quote_socket=None))
    plan = make_plan(config, around(firmware=GENERIC))
    assert value(plan, "TD attributes") == f"{1 << 63 | 1 << 28:#x}"
    assert value(plan, "mrowner") == "07" * 48
    assert "cannot prove anything" in reason(plan, "quotes")
    assert td_attributes(TdxSettings()) == 1 << 28


@pytest.mark.parametrize(("smt", "state"), [(True, "missing"), (None, "ok"), (False, "ok")])
def test_a_guest_policy_without_smt_is_held_against_the_host(smt: bool | None, state: str) -> None:
    (found,) = smt_agrees(host(smt=smt), allowed=False)
    assert (found.id, found.state) == ("snp.smt", state)
    strict = web_1()._replace(snp=SnpSettings(smt=False))
    blocked = {item.id for item in make_plan(strict, around(host=host(snp=True, smt=smt))).blockers}
    assert ("snp.smt" in blocked) is (smt is True)
    assert smt_agrees(host(smt=smt), allowed=True) == ()


@pytest.mark.parametrize(
    ("platform", "qemu_version", "id_"),
    [
        ("sev-snp", (10, 2, 0), "lifecycle.in-place-qemu"),
        ("tdx", (10, 2, 0), "lifecycle.in-place-qemu"),
        ("emulated-snp", (11, 1, 0), "lifecycle.in-place-emulated"),
        ("sev-snp", (11, 0, 0), None),
    ],
)
def test_a_reboot_inside_qemu_is_refused_where_it_could_not_work(
    platform: str, qemu_version: tuple[int, ...], id_: str | None
) -> None:
    config = web_1(platform)._replace(lifecycle=Lifecycle(on_reboot=IN_PLACE))
    surroundings = around(qemu=qemu(*qemu_version), firmware=GENERIC if platform == "tdx" else AMDSEV)
    if id_ is None:
        assert make_plan(config, surroundings).spec.in_place
        return
    with pytest.raises(OptionsRefused) as caught:
        make_plan(config, surroundings)
    assert [item.id for item in caught.value.refusals] == [id_]


@pytest.mark.parametrize("there", [True, False])
def test_a_share_needs_virtiofsd_only_where_one_is_asked_for(there: bool) -> None:
    beside = around(firmware=None).qemu._replace(extras=frozenset({VIRTIOFSD} if there else ()))
    surroundings = around(firmware=None)._replace(qemu=beside)
    sharing = parse_vm(f'{PLAIN}[[share]]\npath = "/data"\ntag = "data"\n'.encode(), "plain.toml")
    assert ("storage.virtiofsd" in {item.id for item in make_plan(sharing, surroundings).blockers}) is not there
    assert not make_plan(parse_vm(PLAIN.encode(), "plain.toml"), surroundings).blockers
    assert value(make_plan(sharing, surroundings), "share data") == "/data"


@pytest.mark.parametrize("there", [True, False])
def test_a_tpm_needs_swtpm_only_where_one_is_asked_for(there: bool) -> None:
    surroundings = around(firmware=None, swtpm=there)
    with_tpm = parse_vm(f"{PLAIN}[devices]\ntpm = true\n".encode(), "plain.toml")
    assert ("tpm" in {item.id for item in make_plan(with_tpm, surroundings).blockers}) is not there
    assert not make_plan(parse_vm(PLAIN.encode(), "plain.toml"), surroundings).blockers

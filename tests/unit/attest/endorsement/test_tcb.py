"""TCB evaluation: levels, modules, convergence and relaunch, each rule on collateral that differs in that rule only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from attest.emulator.td_pki import compact
from attest.endorsement.errors import VerificationFailed
from attest.endorsement.tcb import TcbResult, evaluate, module_of
from attest.evidence.intel_json import TcbInfo, qe_identity_of, tcb_info_of
from policy.tdx import TcbStatus
from tests.fakes.intel_pki import COMPONENTS, PCESVN, QE_SVN, SGX, TEE_TCB_SVN, FakeIntelPki, isv, level, module

S = TcbStatus
NONE = bytes(64)
BEST = tuple(TEE_TCB_SVN)
OLD_MODULE = bytes([2, 1, 6, *bytes(13)])
DATES = {year: datetime(year, 1, 1, tzinfo=UTC) for year in range(2021, 2027)}


def info_of(world: FakeIntelPki) -> TcbInfo:
    return tcb_info_of(compact(world.tcb_info_object).encode(), NONE)


def judge(
    levels: tuple[dict[str, Any], ...] | None = None, modules: tuple[dict[str, Any], ...] | None = None,
    qe: tuple[dict[str, Any], ...] | None = None, svns: tuple[bytes, ...] = (TEE_TCB_SVN,), qe_svn: int = QE_SVN,
) -> TcbResult:  # fmt: skip
    """The evaluation of the good platform under these levels; no SVNs is an SGX platform."""
    world = FakeIntelPki(
        version=4 if svns else 3, layout="1.0" if svns else "sgx", levels=levels, modules=modules, qe_levels=qe
    )
    identity = qe_identity_of(compact(world.qe_identity_object).encode(), NONE)
    return evaluate(SGX, svns, info_of(world), qe_svn, identity)


def on(year: int) -> str:
    return f"{year}-01-01T00:00:00Z"


def less(values: tuple[int, ...], place: int, by: int = 1) -> tuple[int, ...]:
    return tuple(value - by * (number == place) for number, value in enumerate(values))


def test_the_good_platform_is_up_to_date() -> None:
    found = judge()
    assert (found.status, found.platform, found.module, found.qe) == (S.UP_TO_DATE,) * 4
    assert found.running is None
    assert found.behind_since is None
    assert found.advisories == ()


def test_an_sgx_platform_has_no_module() -> None:
    found = judge(svns=())
    assert (found.status, found.module) == (S.UP_TO_DATE, None)


@pytest.mark.parametrize("place", range(16))
def test_every_sgx_component_counts(place: int) -> None:
    above = less(COMPONENTS, place, -1)
    levels = (level(sgx=above), level("OutOfDate", ("INTEL-SA-00001",)))
    found = judge(levels)
    assert (found.status, found.advisories) == (S.OUT_OF_DATE, ("INTEL-SA-00001",))
    with pytest.raises(VerificationFailed, match="not supported") as caught:
        judge(levels[:1])
    assert caught.value.step == "tcb"


@pytest.mark.parametrize("place", range(2, 16))
def test_every_tdx_component_from_the_third_counts(place: int) -> None:
    assert judge((level(tdx=less(BEST, place, -1)), level("OutOfDate"))).status is S.OUT_OF_DATE


@pytest.mark.parametrize("place", [0, 1])
def test_the_first_two_are_the_modules_own_business(place: int) -> None:
    assert judge((level(tdx=less(BEST, place, -1)),)).status is S.UP_TO_DATE


@pytest.mark.parametrize("place", range(16))
def test_every_tdx_component_counts_for_a_module_of_version_0(place: int) -> None:
    svn = bytes([5, 0, 6, *bytes(13)])
    higher = (level(tdx=less(tuple(svn), place, -1)), level("OutOfDate", tdx=svn))
    found = judge(higher, svns=(svn,))
    assert (found.status, found.module) == (S.OUT_OF_DATE, None)


def test_the_pcesvn_counts() -> None:
    assert judge((level(pcesvn=PCESVN + 1), level("OutOfDate", pcesvn=PCESVN))).status is S.OUT_OF_DATE


def test_the_best_level_reached_decides_in_whatever_order_they_stand() -> None:
    good, older = level("SWHardeningNeeded"), level("OutOfDate", sgx=(0,) * 16, pcesvn=0, tdx=(0,) * 16)
    assert judge((good, older)).status is judge((older, good)).status is S.SW_HARDENING_NEEDED


def test_a_module_is_found_by_its_version_in_hexadecimal() -> None:
    svn = bytes([5, 0x1A, 6, *bytes(13)])
    info = info_of(FakeIntelPki(modules=(module("TDX_01"), module("tdx_1a"))))
    assert module_of(info, svn).id == "TDX_1A"
    assert module_of(info, TEE_TCB_SVN).id == "TDX_01"
    assert module_of(info, bytes(16)).id == ""
    with pytest.raises(VerificationFailed, match="TDX_02, it has TDX_01, TDX_1A") as caught:
        module_of(info, bytes([0, 2, *bytes(14)]))
    assert caught.value.step == "module"


def test_tcb_info_of_sgx_knows_no_module() -> None:
    info = info_of(FakeIntelPki(version=3, layout="sgx"))
    for svn in (bytes(16), TEE_TCB_SVN):
        with pytest.raises(VerificationFailed):
            module_of(info, svn)


def test_a_module_or_qe_below_every_level_is_not_supported() -> None:
    with pytest.raises(VerificationFailed, match="TDX module SVN 5 is below"):
        judge(modules=(module(levels=(isv(6),)),))
    with pytest.raises(VerificationFailed, match="QE ISVSVN 8 is below"):
        judge(qe=(isv(9),))
    with pytest.raises(VerificationFailed, match="none"):
        judge(qe=())


CONVERGED = {
    S.UP_TO_DATE: S.OUT_OF_DATE,
    S.SW_HARDENING_NEEDED: S.OUT_OF_DATE,
    S.CONFIGURATION_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    S.OUT_OF_DATE: S.OUT_OF_DATE,
    S.OUT_OF_DATE_CONFIGURATION_NEEDED: S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}


@pytest.mark.parametrize("platform", CONVERGED)
@pytest.mark.parametrize("part", ["module", "qe", "both", "neither"])
def test_a_part_that_is_out_of_date_makes_the_whole_so(platform: TcbStatus, part: str) -> None:
    old = (isv(1, "OutOfDate"),)
    found = judge(
        (level(platform.value),),
        (module(levels=old),) if part in ("module", "both") else None,
        old if part in ("qe", "both") else None,
    )
    assert found.status is (platform if part == "neither" else CONVERGED[platform])
    assert found.platform is platform


@pytest.mark.parametrize("platform", CONVERGED)
def test_a_part_that_is_revoked_refuses_the_whole(platform: TcbStatus) -> None:
    revoked = (isv(1, "Revoked"),)
    attempts: list[dict[str, Any]] = [{"modules": (module(levels=revoked),)}, {"qe": revoked}]
    for parts in attempts:
        with pytest.raises(VerificationFailed, match="Revoked") as caught:
            judge((level(platform.value),), **parts)
        assert caught.value.step == "tcb"


def test_a_platform_that_is_revoked_is_refused_though_its_parts_are_current() -> None:
    with pytest.raises(VerificationFailed, match="platform Revoked, module UpToDate, QE UpToDate"):
        judge((level("Revoked"),))


def test_advisories_are_those_of_all_three_parts_once_and_sorted() -> None:
    found = judge(
        (level("OutOfDate", ("INTEL-SA-3", "INTEL-SA-1")),),
        (module(levels=(isv(1, "OutOfDate", ("INTEL-SA-2", "INTEL-SA-1")),)),),
        (isv(1, "OutOfDate", ("INTEL-SA-0",)),),
    )
    assert found.advisories == ("INTEL-SA-0", "INTEL-SA-1", "INTEL-SA-2", "INTEL-SA-3")


def test_the_date_is_that_of_the_oldest_part_reached() -> None:
    for years in ((2023, 2024, 2025), (2024, 2023, 2025), (2025, 2024, 2023)):
        found = judge(
            (level(date=on(years[0])),), (module(levels=(isv(5, date=on(years[1])),)),), (isv(8, date=on(years[2])),)
        )
        assert found.date == DATES[2023]


def test_behind_since_is_the_date_of_the_first_level_that_was_missed() -> None:
    above = tuple(value + 1 for value in COMPONENTS)
    newest, newer = level(sgx=tuple(value + 2 for value in COMPONENTS), date=on(2026)), level(sgx=above, date=on(2025))
    reached = level("OutOfDate", date=on(2021))
    assert judge((newest, newer, reached)).behind_since == DATES[2025]
    modules = (module(levels=(isv(7, date=on(2024)), isv(6, date=on(2023)), isv(5, "OutOfDate"))),)
    assert judge((newest, newer, reached), modules).behind_since == DATES[2023]
    assert judge(qe=(isv(9, date=on(2022)), isv(8, "OutOfDate"))).behind_since == DATES[2022]


RELAUNCH = {
    S.UP_TO_DATE: S.TD_RELAUNCH_ADVISED,
    S.SW_HARDENING_NEEDED: S.TD_RELAUNCH_ADVISED,
    S.CONFIGURATION_NEEDED: S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    S.CONFIGURATION_AND_SW_HARDENING_NEEDED: S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}


@pytest.mark.parametrize("platform", RELAUNCH)
def test_a_td_launched_under_an_old_module_and_running_under_a_current_one_should_be_relaunched(
    platform: TcbStatus,
) -> None:
    found = judge((level(platform.value),), svns=(OLD_MODULE, TEE_TCB_SVN))
    assert (found.status, found.running, found.module) == (RELAUNCH[platform], platform, S.OUT_OF_DATE)
    assert found.advisories == ("INTEL-SA-01099",)


@pytest.mark.parametrize("launched", ["OutOfDate", "OutOfDateConfigurationNeeded"])
@pytest.mark.parametrize("runs", RELAUNCH)
def test_configuration_that_was_needed_at_launch_or_is_needed_now_stays_needed(launched: str, runs: TcbStatus) -> None:
    """The two modules differ in a component that the platform's own levels judge."""
    older = bytes([5, 1, 5, *bytes(13)])
    levels = (level(runs.value), level(launched, tdx=older))
    needed = launched != "OutOfDate" or RELAUNCH[runs] is S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    found = judge(levels, svns=(older, TEE_TCB_SVN))
    assert found.running is runs
    assert found.status is (S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED if needed else S.TD_RELAUNCH_ADVISED)


def test_a_td_whose_module_was_never_replaced_is_not_to_be_relaunched() -> None:
    assert judge(svns=(TEE_TCB_SVN, TEE_TCB_SVN)).status is S.UP_TO_DATE
    found = judge(svns=(OLD_MODULE, OLD_MODULE))
    assert (found.status, found.running) == (S.OUT_OF_DATE, S.OUT_OF_DATE)


def test_relaunching_does_not_help_a_platform_or_qe_that_is_old() -> None:
    assert judge((level("OutOfDate"),), svns=(OLD_MODULE, TEE_TCB_SVN)).status is S.OUT_OF_DATE
    assert judge(qe=(isv(1, "OutOfDate"),), svns=(OLD_MODULE, TEE_TCB_SVN)).status is S.OUT_OF_DATE


def test_a_module_that_runs_now_and_is_revoked_is_refused() -> None:
    modules = (module(levels=(isv(5), isv(2, "Revoked"))),)
    with pytest.raises(VerificationFailed, match="runs now is Revoked"):
        judge(modules=modules, svns=(TEE_TCB_SVN, OLD_MODULE))
    with pytest.raises(VerificationFailed, match="Revoked"):
        judge(modules=modules, svns=(OLD_MODULE, TEE_TCB_SVN))


def test_a_module_that_runs_now_and_is_unknown_is_refused() -> None:
    with pytest.raises(VerificationFailed) as caught:
        judge(svns=(TEE_TCB_SVN, bytes([5, 2, 6, *bytes(13)])))
    assert caught.value.step == "module"

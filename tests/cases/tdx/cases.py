"""One function, one broken knob, on a platform where everything else is right. Each says which code must come out.

Add a case: write a function that returns the world, or a function to call, and decorate it with the code that has to come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from attest.emulator.td_pki import Validity, compact, pem_chain, sign_raw
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.eventlog import CCEL, parse_event_log
from attest.evidence.eventlog_build import build_event_log
from attest.evidence.intel_certificate import IntelCertificate
from attest.evidence.intel_json import tcb_info_of
from attest.evidence.quote import parse_quote
from tests.fakes.intel_pki import (
    COMPONENTS,
    NOW,
    PCESVN,
    PPID,
    TEE_TCB_SVN,
    FakeIntelPki,
    isv,
    key_of,
    level,
    module,
    stamp,
)

Attempt = Callable[[], object]
PAST = Validity(datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 5, 31, tzinfo=UTC))
FUTURE = Validity(datetime(2026, 6, 2, tzinfo=UTC), datetime(2032, 1, 1, tzinfo=UTC))
PKI = "Intel SGX PCK Certificate and CRL Profile 1.5"
PCS = "Intel PCS API v4"
QVL = "Intel DCAP Quote Verification Library"
QUOTE = "Intel TDX DCAP Quoting Library API, A.3"


@dataclass(frozen=True)
class Case:
    """``attempt`` must fail with ``code``; ``clause`` is what it violates."""

    name: str
    code: str
    clause: str
    attempt: Attempt


CASES: list[Case] = []


def case(code: str, clause: str) -> Callable[[Callable[[], FakeIntelPki | Attempt]], Attempt]:
    """Register a case."""

    def register(make: Callable[[], FakeIntelPki | Attempt]) -> Attempt:
        def attempt() -> object:
            made = make()
            return made.verify() if isinstance(made, FakeIntelPki) else made()

        CASES.append(Case(make.__name__, code, clause, attempt))
        return attempt

    return register


def step(name: str, clause: str) -> Callable[[Callable[[], FakeIntelPki | Attempt]], Attempt]:
    """Register a case of a verification step."""
    return case(f"verification.{name}", clause)


def _with_certificate(role: str, **changes: object) -> FakeIntelPki:
    return FakeIntelPki(certificates={role: changes})


def _chain_of(*certificates: bytes) -> FakeIntelPki:
    return FakeIntelPki(quote={"certification": pem_chain(*certificates)})


# The quote's header and certification data


@step("qe-vendor", f"{QUOTE}: QE vendor id")
def quote_of_another_vendors_enclave() -> FakeIntelPki:
    return FakeIntelPki(quote={"vendor": bytes(16)})


@case("evidence.unsupported", f"{QUOTE}: attestation key type 3 is P-384")
def attestation_key_of_type_p384() -> FakeIntelPki:
    return FakeIntelPki(quote={"key_type": 3})


@case("endorsement.missing", f"{QUOTE}: certification data type 1 names a PCK key without its certificate")
def certification_by_a_name_whose_certificate_is_not_at_hand() -> FakeIntelPki:
    name = PPID + bytes(16) + PCESVN.to_bytes(2, "little") + bytes(2)
    return FakeIntelPki(quote={"certification_type": 1, "certification": name})


@step("leaf", f"{PKI}: leaf, authority, root")
def chain_without_its_root() -> FakeIntelPki:
    return _chain_of(*FakeIntelPki().chain[:2])


@step("leaf", f"{PKI}: leaf, authority, root")
def chain_with_a_fourth_certificate() -> FakeIntelPki:
    world = FakeIntelPki()
    return _chain_of(*world.chain, world.issued("TCB_SIGNING").der)


@step("leaf", f"{PKI}: one PCK certificate")
def chain_led_by_the_tcb_signer() -> FakeIntelPki:
    world = FakeIntelPki()
    return _chain_of(world.issued("TCB_SIGNING").der, *world.chain[1:])


# The chain


@step("root", f"{PKI}: the root's key is Intel's, a name proves nothing")
def root_of_the_right_name_and_another_key() -> Attempt:
    return lambda: FakeIntelPki().verify(anchors=IntelAnchors.intel())


@step("root", f"{PKI}: the root is a CA")
def root_that_is_no_authority() -> FakeIntelPki:
    return _with_certificate("ROOT", ca=False, path_length=None)


@step("intermediate", f"{PKI}: the authority is signed by the root")
def authority_signed_by_another_key() -> FakeIntelPki:
    other = FakeIntelPki(certificates={"ROOT": {"key": "other root"}})
    good = FakeIntelPki()
    return _chain_of(good.chain[0], other.chain[1], good.chain[2])


@step("intermediate", f"{PKI}: the authority is a CA")
def authority_that_is_no_ca() -> FakeIntelPki:
    return _with_certificate("PLATFORM_CA", ca=False, path_length=None)


@step("intermediate", f"{PKI}: the authority signs certificates")
def authority_that_may_not_sign_certificates() -> FakeIntelPki:
    return _with_certificate("PLATFORM_CA", usage=False)


@step("intermediate", f"{PKI}: path length 0")
def authority_that_may_have_authorities_below() -> FakeIntelPki:
    return _with_certificate("PLATFORM_CA", path_length=1)


@step("intermediate", f"{PKI}: path length 0")
def authority_without_a_path_length() -> FakeIntelPki:
    return _with_certificate("PLATFORM_CA", path_length=None)


@step("leaf", f"{PKI}: the leaf is signed by its authority")
def leaf_signed_by_another_key() -> FakeIntelPki:
    good = FakeIntelPki()
    other = FakeIntelPki(certificates={"PLATFORM_CA": {"key": "other authority"}})
    return _chain_of(other.chain[0], *good.chain[1:])


@step("leaf", f"{PKI}: the leaf is issued by the authority that came along")
def leaf_of_the_other_authority() -> FakeIntelPki:
    good = FakeIntelPki()
    return _chain_of(good.chain[0], good.issued("PROCESSOR_CA").der, good.root_der)


@step("leaf", f"{PKI}: a PCK certificate is no CA")
def leaf_that_is_a_ca() -> FakeIntelPki:
    return _with_certificate("PCK", ca=True, path_length=0)


@step("leaf", f"{PKI}: a PCK certificate signs data, not certificates")
def leaf_that_signs_certificates() -> FakeIntelPki:
    return _with_certificate("PCK", usage=True)


@step("leaf", f"{PKI}, 1.3.5: platform instance id under the platform CA")
def platform_leaf_without_an_instance() -> FakeIntelPki:
    nothing = {"piid": None, "dynamic_platform": None, "cached_keys": None, "smt_enabled": None}
    return FakeIntelPki(sgx=nothing)


def _outside(role: str, when: Validity) -> FakeIntelPki:
    return _with_certificate(role, validity=when)


@step("validity", "RFC 5280, 4.1.2.5")
def leaf_that_has_expired() -> FakeIntelPki:
    return _outside("PCK", PAST)


@step("validity", "RFC 5280, 4.1.2.5")
def leaf_of_the_future() -> FakeIntelPki:
    return _outside("PCK", FUTURE)


@step("validity", "RFC 5280, 4.1.2.5")
def authority_that_has_expired() -> FakeIntelPki:
    return _outside("PLATFORM_CA", PAST)


@step("validity", "RFC 5280, 4.1.2.5")
def root_that_has_expired() -> FakeIntelPki:
    return _outside("ROOT", PAST)


@step("revocation", "RFC 5280, 6.3")
def leaf_that_is_revoked() -> FakeIntelPki:
    return FakeIntelPki(crls={"PLATFORM_CA": {"revoked": ("PCK",)}})


@step("revocation", "RFC 5280, 6.3: a list that is past its date still revokes")
def leaf_that_an_old_list_revokes() -> FakeIntelPki:
    return FakeIntelPki(crls={"PLATFORM_CA": {"revoked": ("PCK",), "validity": PAST}})


@step("revocation", "RFC 5280, 6.3")
def authority_that_is_revoked() -> FakeIntelPki:
    return FakeIntelPki(crls={"ROOT": {"revoked": ("PLATFORM_CA",)}})


@step("revocation", "RFC 5280, 6.3")
def tcb_signer_that_is_revoked() -> FakeIntelPki:
    return FakeIntelPki(crls={"ROOT": {"revoked": ("TCB_SIGNING",)}})


# The quoting enclave and the signature


@step("qe-report", f"{QVL}: the PCK key signs the QE report")
def qe_report_signed_by_another_key() -> FakeIntelPki:
    return FakeIntelPki(pck_signs_with="other pck")


@step("qe-binding", f"{QVL}: SHA-256(key || authentication data)")
def qe_that_vouches_for_another_key() -> FakeIntelPki:
    return FakeIntelPki(qe={"report_data": b"\x01" * 32 + bytes(32)})


@step("qe-binding", "the second half of the QE's report data is zero")
def qe_report_data_with_something_behind() -> FakeIntelPki:
    bound = FakeIntelPki().parsed.qe_report.report_data[:32]
    return FakeIntelPki(qe={"report_data": bound + b"\x01" * 32})


@step("signature", f"{QUOTE}: the attestation key signs header and body")
def quote_signed_by_another_key() -> Attempt:
    world = FakeIntelPki()
    signed, start = world.parsed.signed, len(world.parsed.signed) + 4
    forged = world.raw[:start] + sign_raw(key_of("somebody"), signed) + world.raw[start + 64 :]
    world.__dict__.update(raw=forged, parsed=parse_quote(forged))
    return world.verify


def _qe(**changes: object) -> FakeIntelPki:
    return FakeIntelPki(qe=changes)  # type: ignore[arg-type]


@step("qe-identity", f"{PCS}: mrsigner")
def qe_of_another_signer() -> FakeIntelPki:
    return _qe(mrsigner=b"\x13" * 32)


@step("qe-identity", f"{PCS}: isvprodid")
def qe_of_another_product() -> FakeIntelPki:
    return _qe(isvprodid=1)


@step("qe-identity", f"{PCS}: miscselect under its mask")
def qe_with_another_miscselect() -> FakeIntelPki:
    return _qe(miscselect=1)


@step("qe-identity", f"{PCS}: attributes under their mask")
def qe_with_another_attribute() -> FakeIntelPki:
    return _qe(attributes=0x15 | 1 << 7)


@step("qe-identity", f"{QVL}: a debuggable QE keeps no secret, whatever the mask says")
def qe_that_is_debuggable() -> FakeIntelPki:
    return FakeIntelPki(qe={"attributes": 0x17}, qe_identity={"attributesMask": "F9" + "FF" * 7 + "00" * 8})


# Collateral


@step("collateral", f"{PCS}: the TCB signer signs TCB info")
def collateral_signed_by_a_stranger() -> FakeIntelPki:
    return FakeIntelPki(json_key="somebody")


@step("collateral", f"{PKI}: roles; all chains end in the same root")
def collateral_signed_by_a_pck_key() -> FakeIntelPki:
    return FakeIntelPki(json_key="PCK")


@step("collateral", f"{PCS}: the signature covers the text as served")
def tcb_info_written_anew() -> Attempt:
    world = FakeIntelPki()
    (served,) = world.collateral.tcb_infos
    again = tcb_info_of(json.dumps(json.loads(served.signed)).encode(), served.signature)
    return lambda: world.verify(collateral=replace(world.collateral, tcb_infos=(again,)))


@step("collateral", f"{PCS}: the signature covers the text as served")
def tcb_info_with_members_in_another_order() -> Attempt:
    world = FakeIntelPki()
    (served,) = world.collateral.tcb_infos
    turned = dict(reversed(json.loads(served.signed).items()))
    again = tcb_info_of(compact(turned).encode(), served.signature)
    return lambda: world.verify(collateral=replace(world.collateral, tcb_infos=(again,)))


@step("root", f"{PKI}: the TCB signer's root is trusted too")
def tcb_signer_under_another_root() -> Attempt:
    world = FakeIntelPki()
    other = FakeIntelPki(certificates={"ROOT": {"key": "other root"}})
    chain = tuple(IntelCertificate.parse(der) for der in other.issuer_chain)
    anchors = IntelAnchors(world.anchors.keys)
    return lambda: world.verify(collateral=replace(world.collateral, certificates=chain), anchors=anchors)


@step("collateral", f"{PKI}: all chains end in the same root")
def collateral_under_another_root_that_is_trusted_too() -> Attempt:
    world = FakeIntelPki()
    other = FakeIntelPki(certificates={"ROOT": {"key": "other root"}, "TCB_SIGNING": {"key": "other signer"}})
    own = other.with_(json_key="other signer").collateral
    anchors = world.anchors.with_test_root(other.root_der)
    return lambda: world.verify(collateral=replace(own, crls=world.collateral.crls), anchors=anchors)


@case("endorsement.expired", f"{PCS}: nextUpdate")
def tcb_info_past_its_date() -> FakeIntelPki:
    return FakeIntelPki(tcb_info={"nextUpdate": stamp(NOW)})


@case("endorsement.expired", f"{PCS}: nextUpdate")
def qe_identity_past_its_date() -> FakeIntelPki:
    return FakeIntelPki(qe_identity={"nextUpdate": stamp(NOW)})


@case("endorsement.missing", f"{PCS}: issueDate")
def tcb_info_of_the_future() -> FakeIntelPki:
    return FakeIntelPki(tcb_info={"issueDate": stamp(NOW + timedelta(seconds=1))})


@case("endorsement.missing", f"{PCS}: issueDate")
def qe_identity_of_the_future() -> FakeIntelPki:
    return FakeIntelPki(qe_identity={"issueDate": stamp(NOW + timedelta(seconds=1))})


@case("endorsement.expired", "RFC 5280, 4.1.2.5")
def tcb_signer_that_has_expired() -> FakeIntelPki:
    return _outside("TCB_SIGNING", PAST)


@case("endorsement.missing", f"{PCS}: TCB info is per FMSPC")
def tcb_info_of_another_platform() -> FakeIntelPki:
    return FakeIntelPki(tcb_info={"fmspc": "00" * 6})


@case("endorsement.missing", f"{PCS}: TCB info of SGX says nothing of a TDX module")
def tcb_info_of_sgx_for_a_td() -> FakeIntelPki:
    return FakeIntelPki(tcb_info={"id": "SGX"})


@case("endorsement.missing", f"{PCS}: a TD's quote needs the identity TD_QE")
def qe_identity_of_the_sgx_qe_for_a_td() -> FakeIntelPki:
    return FakeIntelPki(qe_identity={"id": "QE"})


@case("endorsement.missing", "no collateral, no verdict")
def nothing_at_hand() -> Attempt:
    return lambda: FakeIntelPki().verify(
        collateral=IntelCollateral(certificates=FakeIntelPki().collateral.certificates)
    )


@step("platform", f"{QVL}: PCE id")
def tcb_info_of_another_pce() -> FakeIntelPki:
    return FakeIntelPki(tcb_info={"pceId": "0100"})


# The TDX module


@step("module", f"{PCS}: tdxModuleIdentities")
def module_of_a_version_nobody_lists() -> FakeIntelPki:
    return FakeIntelPki(modules=(module("TDX_02"),))


@step("module", f"{PCS}: tdxModuleIdentities may be absent")
def module_version_without_any_identity() -> FakeIntelPki:
    return FakeIntelPki(modules=())


@step("module", f"{PCS}: mrsigner of the module")
def module_of_another_signer() -> FakeIntelPki:
    return FakeIntelPki(td={"mrsignerseam": b"\x01" * 48})


@step("module", f"{QVL}: SEAMATTRIBUTES are zero")
def module_with_attributes() -> FakeIntelPki:
    return FakeIntelPki(td={"seamattributes": 1})


@step("module", f"{QVL}: SEAMATTRIBUTES are zero, whatever the mask says")
def module_with_attributes_that_the_mask_lets_pass() -> FakeIntelPki:
    return FakeIntelPki(td={"seamattributes": 1}, modules=(module(attributesMask="00" * 8),))


# TCB levels


def _less(values: tuple[int, ...], index: int) -> tuple[int, ...]:
    return tuple(value + (number == index) for number, value in enumerate(values))


@step("tcb", f"{PCS}: every SGX component")
def sgx_component_below_every_level() -> FakeIntelPki:
    return FakeIntelPki(levels=(level(sgx=_less(COMPONENTS, 15)),))


@step("tcb", f"{PCS}: PCESVN")
def pcesvn_below_every_level() -> FakeIntelPki:
    return FakeIntelPki(levels=(level(pcesvn=PCESVN + 1),))


@step("tcb", f"{PCS}: every TDX component")
def tdx_component_below_every_level() -> FakeIntelPki:
    return FakeIntelPki(levels=(level(tdx=_less(tuple(TEE_TCB_SVN), 2)),))


@step("tcb", f"{PCS}: components are compared one by one, not as a number")
def one_high_component_does_not_make_up_for_a_low_one() -> FakeIntelPki:
    wanted = (COMPONENTS[0] - 1, COMPONENTS[1] + 1, *COMPONENTS[2:])
    return FakeIntelPki(levels=(level(sgx=wanted),))


@step("tcb", f"{PCS}: module levels")
def module_below_every_level() -> FakeIntelPki:
    return FakeIntelPki(modules=(module(levels=(isv(6),)),))


@step("tcb", f"{PCS}: QE levels")
def qe_below_every_level() -> FakeIntelPki:
    return FakeIntelPki(qe_levels=(isv(9),))


@step("tcb", f"{PCS}: Revoked")
def platform_level_revoked() -> FakeIntelPki:
    return FakeIntelPki(levels=(level("Revoked"),))


@step("tcb", f"{PCS}: Revoked")
def module_level_revoked() -> FakeIntelPki:
    return FakeIntelPki(modules=(module(levels=(isv(5, "Revoked"),)),))


@step("tcb", f"{PCS}: Revoked")
def qe_level_revoked() -> FakeIntelPki:
    return FakeIntelPki(qe_levels=(isv(8, "Revoked"),))


@step("tcb", "a module that runs now and is revoked is the worse news")
def running_module_revoked() -> FakeIntelPki:
    levels = (isv(5), isv(4, "Revoked"))
    running = bytes([4, *TEE_TCB_SVN[1:]])
    return FakeIntelPki(version=5, layout="1.5", td={"tee_tcb_svn2": running}, modules=(module(levels=levels),))


@step("binding", "RFC 9334, section 10: freshness")
def answer_to_another_challenge() -> Attempt:
    return lambda: FakeIntelPki().verify(report_data=b"\x23" * 64)


@step("event-log", "TCG PC Client PFP: the log replays to the registers")
def event_log_of_another_boot() -> Attempt:
    log = parse_event_log(build_event_log((), kind=CCEL))
    return lambda: FakeIntelPki().verify(event_log=log)

"""Verified claims of a TD and of an enclave without a processor, and those that the vectors' manifest describes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from policy.claims import PckClaims, QeClaims, SgxClaims, TcbClaims, TdxClaims, VerifiedClaims, verifier_seal
from policy.tdx import SgxAttributes, TcbStatus, TdAttributes, Xfam
from policy.vocab import LaunchDigest, Platform

NOW = datetime(2026, 7, 1, tzinfo=UTC)
PCK = PckClaims(
    ca="platform",
    ppid=b"\x44" * 16,
    piid=b"\x55" * 16,
    fmspc=bytes.fromhex("00806f050000"),
    pceid=bytes(2),
    cpusvn=bytes(16),
    components=(8, 8, 2, 2, 4, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0),
    pcesvn=11,
    sgx_type=1,
    dynamic_platform=True,
    cached_keys=False,
    smt_enabled=True,
)
TCB = TcbClaims(
    status=TcbStatus.UP_TO_DATE,
    platform=TcbStatus.UP_TO_DATE,
    module=TcbStatus.UP_TO_DATE,
    qe=TcbStatus.UP_TO_DATE,
    running=None,
    tcb_date=datetime(2025, 5, 14, tzinfo=UTC),
    behind_since=None,
    advisory_ids=(),
    tcb_info_number=19,
    qe_identity_number=19,
    issued=datetime(2026, 6, 20, tzinfo=UTC),
    expires=datetime(2026, 7, 20, tzinfo=UTC),
    pck_crl_number=1,
    root_crl_number=1,
)
QE = QeClaims(isvsvn=6, mrsigner=b"\xdc" * 32, user_data=bytes(20))
TD = TdxClaims(
    version=4,
    body="1.0",
    tee_tcb_svn=bytes.fromhex("08010800000000000000000000000000"),
    mrseam=b"\xbf" * 48,
    mrsignerseam=bytes(48),
    seamattributes=0,
    td_attributes=TdAttributes(0x10000000),
    xfam=Xfam(0x600E7),
    mrtd=LaunchDigest(b"\x11" * 48),
    mrconfigid=bytes(48),
    mrowner=bytes(48),
    mrownerconfig=bytes(48),
    rtmrs=(b"\xa0" * 48, b"\xa1" * 48, b"\xa2" * 48, bytes(48)),
    report_data=bytes(64),
    tee_tcb_svn2=None,
    mrservicetd=None,
    extended=(),
    pck=PCK,
    tcb=TCB,
    qe=QE,
    root="intel",
    revocation="good",
    events=None,
)
ENCLAVE = SgxClaims(
    version=3,
    cpusvn=bytes(16),
    miscselect=0,
    attributes=SgxAttributes(0x5),
    xfrm=Xfam(0xE7),
    mrenclave=b"\x66" * 32,
    mrsigner=b"\x77" * 32,
    isvextprodid=bytes(16),
    isvprodid=7,
    isvsvn=3,
    isvfamilyid=bytes(16),
    configid=bytes(64),
    configsvn=0,
    report_data=bytes(64),
    pck=PCK,
    tcb=TCB._replace(module=None),
    qe=QE,
    root="intel",
    revocation="good",
)


def td(platform: Platform = Platform.TDX, **changes: Any) -> VerifiedClaims:
    """A healthy TD with ``changes``; those named ``pck__x``, ``tcb__x`` and ``qe__x`` are of its parts."""
    return VerifiedClaims(platform, changed(TD, **changes), verifier_seal())


def enclave(platform: Platform = Platform.SGX, **changes: Any) -> VerifiedClaims:
    """A healthy enclave with ``changes``, as :func:`td`."""
    return VerifiedClaims(platform, changed(ENCLAVE, **changes), verifier_seal())


def changed(claims: Any, **changes: Any) -> Any:
    """``claims`` with fields replaced; ``pck__fmspc`` is ``fmspc`` of the part ``pck``."""
    own = {name: value for name, value in changes.items() if "__" not in name}
    for name, value in changes.items():
        part, _, field = name.partition("__")
        if field:
            own[part] = own.get(part, getattr(claims, part))._replace(**{field: value})
    return claims._replace(**own)


def described(facts: dict[str, Any], expected: dict[str, Any], number: int) -> TdxClaims:
    """The claims of a TD quote that the manifest's ``facts`` and the outcome ``expected`` of a case describe.

    Dates of the collateral are those of :data:`TCB`: the manifest gives none that a rule compares. ``behind_since`` is
    a week before :data:`NOW` where the status says that something newer exists.
    """
    raw = {
        name: bytes.fromhex(facts[name]) for name in facts if name.startswith(("mr", "rtmr", "tee_tcb", "report_data"))
    }
    status = TcbStatus(expected["tcb_status"])
    late = status not in (TcbStatus.UP_TO_DATE, TcbStatus.SW_HARDENING_NEEDED)
    return changed(
        TD, version=facts["version"], body="1.5" if "tee_tcb_svn2" in raw else "1.0", tee_tcb_svn=raw["tee_tcb_svn"],
        mrseam=raw["mrseam"], mrsignerseam=raw["mrsignerseam"], td_attributes=TdAttributes(_little(facts["td_attributes"])),
        xfam=Xfam(_little(facts["xfam"])), mrtd=LaunchDigest(raw["mrtd"]), mrconfigid=raw["mr_config_id"],
        mrowner=raw["mr_owner"], mrownerconfig=raw["mr_owner_config"],
        rtmrs=(raw["rtmr0"], raw["rtmr1"], raw["rtmr2"], raw["rtmr3"]), report_data=raw["report_data"],
        tee_tcb_svn2=raw.get("tee_tcb_svn2"), mrservicetd=raw.get("mr_service_td"), pck=_pck(facts["pck"]),
        tcb__status=status, tcb__platform=TcbStatus(expected["platform_status"]), tcb__qe=TcbStatus(expected["qe_status"]),
        tcb__advisory_ids=tuple(expected["advisory_ids"]), tcb__tcb_info_number=number, tcb__qe_identity_number=number,
        tcb__behind_since=datetime(2026, 6, 24, tzinfo=UTC) if late else None, qe__isvsvn=facts["qe"]["isvsvn"],
    )  # fmt: skip


def _pck(facts: dict[str, Any]) -> PckClaims:
    instance = facts.get("platform_instance_id")
    return PckClaims(
        ca="platform" if "Platform" in facts["ca"] else "processor",
        ppid=bytes.fromhex(facts["ppid"]),
        piid=None if instance is None else bytes.fromhex(instance),
        fmspc=bytes.fromhex(facts["fmspc"]),
        pceid=bytes.fromhex(facts["pceid"]),
        cpusvn=bytes.fromhex(facts["cpusvn"]),
        components=tuple(facts["tcb_components"]),
        pcesvn=facts["pcesvn"],
        sgx_type=facts["sgx_type"],
        dynamic_platform=facts.get("dynamic_platform"),
        cached_keys=facts.get("cached_keys"),
        smt_enabled=facts.get("smt_enabled"),
    )


def _little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")

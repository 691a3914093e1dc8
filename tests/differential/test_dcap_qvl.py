"""Our verdicts on quotes beside those of ``dcap-qvl``: random levels, SVNs, modules, dates and statuses; same status, same
advisories, same refusals.

A few hundred platforms by default, ``CVM_DIFFERENTIAL=5000`` for more. Where we differ on purpose the rule is
written in :func:`differs_on_purpose`, with the reason.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policy.claims import SnpClaims
from policy.errors import CvmError
from policy.tdx import TcbStatus
from tests.fakes.intel_pki import COMPONENTS, NOW, PCESVN, QE_SVN, TEE_TCB_SVN, FakeIntelPki, isv, level, module, stamp

dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")
EXAMPLES = int(os.environ.get("CVM_DIFFERENTIAL", "300"))
REFUSED = ("refused", ())
PLATFORM = [
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded", "Revoked",
]  # fmt: skip
PART = ["UpToDate", "OutOfDate", "Revoked"]
ADVISORIES = st.lists(st.sampled_from([f"INTEL-SA-{n:05}" for n in range(1, 9)]), unique=True, max_size=3).map(tuple)
DATES = st.sampled_from(["2023-02-15T00:00:00Z", "2024-03-13T00:00:00Z", "2025-05-14T00:00:00Z"])
Verdict = tuple[str, tuple[str, ...]]


def near(values: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    """SVNs that mostly equal ``values``, some one off."""
    steps = st.sampled_from([0] * 50 + [-1] * 4 + [-2, 1])
    return st.lists(steps, min_size=len(values), max_size=len(values)).map(
        lambda found: tuple(max(0, value + step) for value, step in zip(values, found, strict=True))
    )


@st.composite
def platform_levels(draw: st.DrawFn, *, td: bool) -> tuple[dict[str, Any], ...]:
    """One to four levels, in any order, and mostly one that every platform reaches."""
    found = [level(draw(st.sampled_from(PLATFORM[:-1])), td=td, sgx=(0,) * 16, pcesvn=0, tdx=(0,) * 16)]
    found = found if draw(st.integers(0, 9)) else []
    for _ in range(draw(st.integers(1, 4))):
        found.append(
            level(
                draw(st.sampled_from([*PLATFORM[:-1] * 4, "Revoked"])), draw(ADVISORIES), td=td, sgx=draw(near(COMPONENTS)),
                pcesvn=draw(st.sampled_from([0, PCESVN - 1, PCESVN, PCESVN, PCESVN + 1])),
                tdx=draw(near(tuple(TEE_TCB_SVN))), date=draw(DATES),
            )
        )  # fmt: skip
    return tuple(found)


@st.composite
def part_levels(draw: st.DrawFn, svn: int) -> tuple[dict[str, Any], ...]:
    """Levels of a module or a QE, best first."""
    svns = draw(st.lists(st.integers(svn - 2, svn + 1), unique=True, max_size=2))
    svns += [0] if not svns or draw(st.integers(0, 9)) else []
    return tuple(
        isv(number, draw(st.sampled_from([*PART[:2] * 8, PART[2]])), draw(ADVISORIES), draw(DATES))
        for number in sorted(svns, reverse=True)
    )


@st.composite
def worlds(draw: st.DrawFn) -> FakeIntelPki:
    """A platform with its collateral: nothing is broken, all is more or less current."""
    version, layout = draw(st.sampled_from([(3, "sgx"), (4, "1.0"), (4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5")]))
    td: dict[str, int | bytes] = {}
    if layout != "sgx":
        td["tee_tcb_svn"] = bytes(draw(near(tuple(TEE_TCB_SVN))))
    if layout == "1.5":
        td["tee_tcb_svn2"] = bytes(draw(near(tuple(TEE_TCB_SVN))))
    names = draw(st.sampled_from([("TDX_01",)] * 4 + [("tdx_01", "TDX_00"), ("TDX_00", "TDX_01"), ("TDX_02",)]))
    issued = NOW + timedelta(days=draw(st.sampled_from([-2] * 18 + [-40, 1])))
    return FakeIntelPki(
        version=version,
        layout=layout,
        td=td,
        ca=draw(st.sampled_from(["PLATFORM_CA", "PROCESSOR_CA"])),
        levels=draw(platform_levels(td=layout != "sgx")),
        modules=tuple(module(name, draw(part_levels(TEE_TCB_SVN[0]))) for name in names),
        qe_levels=draw(part_levels(QE_SVN)),
        tcb_info={"issueDate": stamp(issued), "nextUpdate": stamp(issued + timedelta(days=30))},
        crls=draw(st.sampled_from([{}] * 15 + [{"PLATFORM_CA": {"revoked": ("PCK",)}}])),
    )


def ours(world: FakeIntelPki) -> Verdict:
    try:
        tee = world.verify().tee
    except CvmError:
        return REFUSED
    assert not isinstance(tee, SnpClaims)
    return tee.tcb.status.value, tee.tcb.advisory_ids


def theirs(world: FakeIntelPki) -> Verdict:
    try:
        found = dcap_qvl.verify_with_root_ca(world.raw, peer_collateral(world), world.root_der, int(NOW.timestamp()))
    except ValueError:
        return REFUSED
    return found.status, tuple(sorted(found.advisory_ids))


def peer_collateral(world: FakeIntelPki) -> Any:
    """The same bytes in the peer's form."""
    (info,), (identity,) = world.collateral.tcb_infos, world.collateral.qe_identities
    signers = pem(*world.issuer_chain)
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=pem(world.issued(world.ca).der, world.root_der),
        root_ca_crl=world.crl("ROOT"),
        pck_crl=world.crl(world.ca),
        tcb_info_issuer_chain=signers,
        tcb_info=info.signed.decode(),
        tcb_info_signature=info.signature,
        qe_identity_issuer_chain=signers,
        qe_identity=identity.signed.decode(),
        qe_identity_signature=identity.signature,
    )


def pem(*certificates: bytes) -> str:
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in certificates).decode()


def differs_on_purpose(world: FakeIntelPki, mine: Verdict, peer: Verdict) -> bool:
    """The differences we stand by."""
    return False


CONFIGURATION_AT_LAUNCH = FakeIntelPki(
    version=5, layout="1.5", td={"tee_tcb_svn": bytes([*TEE_TCB_SVN[:2], 0, *TEE_TCB_SVN[3:]])},
    levels=(level(), level("OutOfDateConfigurationNeeded", tdx=(0,) * 16)),
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES == 300, suppress_health_check=list(HealthCheck))
@given(worlds())
@example(FakeIntelPki())
@example(FakeIntelPki(version=5, layout="1.5", td={"tee_tcb_svn": bytes([2, *TEE_TCB_SVN[1:]])}))
@example(CONFIGURATION_AT_LAUNCH)
def test_verdict_status_and_advisories_are_the_peers(world: FakeIntelPki) -> None:
    mine, peer = ours(world), theirs(world)
    assert mine == peer or differs_on_purpose(world, mine, peer)


def test_the_peer_takes_the_unbroken_platform() -> None:
    assert theirs(FakeIntelPki()) == ours(FakeIntelPki()) == (TcbStatus.UP_TO_DATE.value, ())

"""A quote without its chain: verified with certificates at hand, and with none but the platform's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attest.emulator.td_pki import pem_chain
from attest.endorsement.errors import EndorsementMissing, VerificationFailed
from attest.endorsement.intel import IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.intel_certificate import IntelCertificate, IntelRole
from policy.claims import TdxClaims
from tests.fakes.intel_pki import PCESVN, PPID, FakeIntelPki

OTHER_MACHINE = FakeIntelPki(certificates={"PCK": {"key": "other"}}, sgx={"ppid": bytes(16)})


def named(kind: int, *, ppid: bytes = PPID, pcesvn: int = PCESVN, pceid: bytes = b"\0\0") -> FakeIntelPki:
    """A platform whose quote names its PCK key; an encrypted PPID is Intel's to read."""
    size = {1: 16, 2: 256, 3: 384}[kind]
    data = (ppid if kind == 1 else bytes(size)) + bytes(16) + pcesvn.to_bytes(2, "little") + pceid
    return FakeIntelPki(quote={"certification_type": kind, "certification": data})


def with_pck(world: FakeIntelPki, *machines: FakeIntelPki) -> IntelCollateral:
    return IntelCollateral.of(IntelCertificate.parse(machine.chain[0]) for machine in machines) + world.collateral


def leaf_alone(world: FakeIntelPki | None = None) -> FakeIntelPki:
    world = world or FakeIntelPki()
    return world.with_(quote={"certification_type": 4, "certification": pem_chain(world.chain[0])})


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_quote_that_names_its_key_is_genuine_with_its_certificate_at_hand(kind: int) -> None:
    world = named(kind)
    claims = world.verify(collateral=with_pck(world, OTHER_MACHINE, world))
    assert isinstance(claims.tee, TdxClaims)
    assert (claims.tee.pck.ppid, claims.revocation) == (PPID, "good")


def test_a_quote_with_its_leaf_alone_is_genuine_with_the_authority_at_hand() -> None:
    claims = leaf_alone().verify()
    assert isinstance(claims.tee, TdxClaims)
    assert claims.tee.pck.ca == "platform"


@pytest.mark.parametrize("kind", [1, 2])
def test_without_the_certificate_something_is_missing_not_wrong(kind: int) -> None:
    world = named(kind)
    with pytest.raises(EndorsementMissing, match=r"its PCK certificate is not at hand") as caught:
        world.verify(collateral=with_pck(world, OTHER_MACHINE))
    assert "--collateral" in str(caught.value.hint)


def test_without_the_authority_something_is_missing_not_wrong() -> None:
    world = leaf_alone()
    pool = world.collateral
    others = [item for item in pool.certificates if item.role is not IntelRole.PLATFORM_CA]
    with pytest.raises(EndorsementMissing, match="the authority of its PCK certificate"):
        world.verify(collateral=replace(pool, certificates=tuple(others)))


@pytest.mark.parametrize(
    "world",
    [named(1, ppid=b"\1" * 16), named(1, pcesvn=PCESVN - 1), named(2, pcesvn=PCESVN - 1), named(2, pceid=b"\1\0")],
    ids=["another PPID", "an older PCESVN", "an older PCESVN, PPID encrypted", "another PCE id"],
)
def test_a_certificate_that_does_not_fit_the_name_is_not_taken_though_its_key_signed(world: FakeIntelPki) -> None:
    with pytest.raises(EndorsementMissing):
        world.verify(collateral=with_pck(world, world))


def test_a_newer_platform_may_quote_under_a_certificate_of_an_older_tcb() -> None:
    world = named(1, pcesvn=PCESVN + 3)
    assert world.verify(collateral=with_pck(world, world)).revocation == "good"


@pytest.mark.parametrize("world", [named(1), leaf_alone()], ids=["named", "leaf"])
def test_the_chain_at_hand_is_walked_as_strictly_as_one_that_came(world: FakeIntelPki) -> None:
    with pytest.raises(VerificationFailed) as caught:
        world.verify(collateral=with_pck(world, world), anchors=IntelAnchors.intel())
    assert caught.value.step == "root"
    forged = FakeIntelPki(certificates={"ROOT": {"key": "mallory"}, "PLATFORM_CA": {"key": "mallory's"}})
    certificates = [item for item in forged.collateral.certificates if item.role is IntelRole.PLATFORM_CA]
    rest = [item for item in with_pck(world, world).certificates if item.role is not IntelRole.PLATFORM_CA]
    with pytest.raises(VerificationFailed) as caught:
        world.verify(collateral=replace(with_pck(world, world), certificates=(*rest, *certificates)))
    assert caught.value.step in ("leaf", "intermediate")


def test_a_leaf_that_came_alone_must_have_signed_the_qe_report() -> None:
    world = leaf_alone(FakeIntelPki(pck_signs_with="somebody"))
    with pytest.raises(VerificationFailed) as caught:
        world.verify()
    assert caught.value.step == "qe-report"


def test_a_revoked_certificate_at_hand_is_refused() -> None:
    world = named(1).with_(crls={"PLATFORM_CA": {"revoked": ("PCK",)}})
    with pytest.raises(VerificationFailed) as caught:
        world.verify(collateral=with_pck(world, world))
    assert caught.value.step == "revocation"


def test_another_pool_is_judged_anew() -> None:
    from attest.verifier.quote import QuoteVerifier
    from tests.fakes.intel_pki import NOW

    world = named(2)
    verifier = QuoteVerifier(world.anchors)
    verifier.verify(world.parsed, with_pck(world, world), now=NOW, expected_report_data=None)
    with pytest.raises(EndorsementMissing):
        verifier.verify(world.parsed, world.collateral, now=NOW, expected_report_data=None)

"""The client against a service that answers as AMD does, and as AMD should not: one behaviour in each test."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import (
    CollateralNotFound,
    CollateralPaced,
    CollateralRefused,
    CollateralUnavailable,
)
from attest.collateral.kds import KdsClient
from attest.collateral.kds_settings import KdsSettings
from attest.collateral.limits import Timeouts
from attest.collateral.url import base_url
from attest.collateral.wanted import Family, Kind, NotAskable, Wanted, wanted_from_name, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from policy.snp import SigningKey, TcbVersion
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import CHIP, NOW, Ca, FakeAmdPki, Leaf
from tests.fakes.kds import FakeKds, Reply

TCB = TcbVersion(10, 0, 24, 84)
TURIN_TCB = TcbVersion(1, 2, 3, 97, fmc=1)


def fetch(kds: FakeKds, folder: Path, wanted: Wanted | None = None, seconds: float = 60.0) -> None:
    """Fetch through a fresh source."""
    held = kds.source(folder).get(wanted or kds.leaf, kds.pki.anchors, NOW, kds.time.budget(seconds))
    assert held is not None
    assert held.problem is None


def refused(kds: FakeKds, folder: Path, kind: type[CollateralUnavailable], seconds: float = 60.0) -> str:
    """Fetching the VCEK fails with an error of exactly this kind, and nothing is kept; returns its message."""
    with pytest.raises(CollateralUnavailable) as caught:
        fetch(kds, folder, seconds=seconds)
    assert type(caught.value) is kind, caught.value
    assert kds.source(folder).cached(kds.leaf, kds.pki.anchors, NOW) is None
    assert not list((folder / "objects").iterdir())
    return f"{caught.value} {caught.value.hint}"


def prepared(kds: FakeKds, folder: Path) -> Path:
    """A cache that a leaf can be verified with: our root is no certificate that is shipped, so the chain comes first."""
    fetch(kds, folder, kds.chain)
    kds.asked.clear()
    return folder


@pytest.mark.parametrize(
    ("product", "chip", "tcb", "path"),
    [
        (
            SnpProduct.GENOA, CHIP, TCB,
            f"/vcek/v1/Genoa/{CHIP.hex()}?blSPL=10&teeSPL=00&snpSPL=24&ucodeSPL=84",
        ),
        (
            SnpProduct.MILAN, CHIP, TcbVersion(3, 0, 8, 209),
            f"/vcek/v1/Milan/{CHIP.hex()}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=209",
        ),
        (
            SnpProduct.TURIN, CHIP[:8] + bytes(56), TURIN_TCB,
            f"/vcek/v1/Turin/{CHIP[:8].hex()}?fmcSPL=01&blSPL=01&teeSPL=02&snpSPL=03&ucodeSPL=97",
        ),
    ],
)  # fmt: skip
def test_a_vcek_is_asked_for_by_product_chip_and_reported_tcb(
    product: SnpProduct, chip: bytes, tcb: TcbVersion, path: str
) -> None:
    wanted = wanted_vcek(product, chip, tcb.to_bytes())
    assert wanted.path == path
    assert wanted_from_name(wanted.name) == wanted


@pytest.mark.parametrize("family", list(Family))
def test_chain_and_list_have_paths_for_both_kinds_of_key(family: Family) -> None:
    for kind, last in ((Kind.CHAIN, "cert_chain"), (Kind.CRL, "crl")):
        wanted = Wanted(kind, SnpProduct.TURIN, family)
        assert wanted.path == f"/{family.value}/v1/Turin/{last}"
        assert wanted_from_name(wanted.name) == wanted


@pytest.mark.parametrize(
    ("product", "chip", "tcb", "reason"),
    [
        (SnpProduct.GENOA, bytes(64), TCB, "masked"),
        (SnpProduct.GENOA, CHIP[:8], TCB, "want 64"),
        (SnpProduct.TURIN, CHIP, TURIN_TCB, "want 8"),
        (SnpProduct.TURIN, CHIP[:8], TcbVersion(10, 0, 24, 84), "reserved"),
        (SnpProduct.GENOA, CHIP, TURIN_TCB, "reserved"),
    ],
)
def test_what_cannot_exist_is_not_asked_for(product: SnpProduct, chip: bytes, tcb: TcbVersion, reason: str) -> None:
    with pytest.raises(NotAskable, match=reason):
        wanted_vcek(product, chip, tcb.to_bytes())


@pytest.mark.parametrize(
    "name", ["", "vcek", "crl-vcek-Rome", "vcek-Genoa-00-11", "../x", "crl-vcek-Milan\n", "x" * 999]
)
def test_another_name_is_no_name_of_collateral(name: str) -> None:
    with pytest.raises(NotAskable):
        wanted_from_name(name)


@pytest.mark.parametrize("product", list(SnpProduct))
@pytest.mark.parametrize("kind", [SigningKey.VCEK, SigningKey.VLEK])
def test_chain_and_list_of_every_product_are_fetched_and_verified(
    product: SnpProduct, kind: SigningKey, tmp_path: Path
) -> None:
    with FakeKds(FakeAmdPki(product=product, kind=kind)) as kds:
        fetch(kds, tmp_path, kds.chain)
        fetch(kds, tmp_path, kds.list)
        if kind is SigningKey.VCEK:
            fetch(kds, tmp_path, kds.leaf)
        family = "vlek" if kind is SigningKey.VLEK else "vcek"
        assert kds.asked[:2] == [f"/{family}/v1/{product.value}/cert_chain", f"/{family}/v1/{product.value}/crl"]


def test_no_cookie_no_credentials_and_no_compression_are_offered(
    kds: FakeKds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login olga password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(kds, tmp_path / "cache", kds.chain)
    (headers,) = kds.headers
    assert "Authorization" not in headers
    assert "Cookie" not in headers
    assert headers["Accept-Encoding"] == "identity"


def test_429_without_retry_after_is_tried_again_with_growing_pauses(kds: FakeKds, tmp_path: Path) -> None:
    prepared(kds, tmp_path)
    kds.next(*[Reply(status=429)] * 3)
    fetch(kds, tmp_path)
    assert len(kds.asked) == 4
    pauses = kds.time.slept
    assert sum(pauses) >= 30  # four VCEK requests have four turns, ten seconds apart
    assert all(0 < pause <= 20 for pause in pauses)


def test_the_pauses_for_a_list_grow_and_are_never_the_full_length(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(*[Reply(status=503)] * 3)
    fetch(kds, tmp_path, kds.list)
    assert kds.time.slept == [0.75, 1.5, 3.0]  # 1, 2, 4 seconds times 0.5 + jitter / 2


def test_429_with_retry_after_waits_at_least_that_long(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(Reply(status=429, headers={"Retry-After": "7"}))
    fetch(kds, tmp_path, kds.list)
    assert len(kds.asked) == 2
    assert 7 <= sum(kds.time.slept) < 9


def test_retry_after_may_be_a_date(kds: FakeKds, tmp_path: Path) -> None:
    then = datetime.fromtimestamp(kds.time.now, UTC) + timedelta(seconds=20)
    kds.next(Reply(status=429, headers={"Retry-After": format_datetime(then, usegmt=True)}))
    fetch(kds, tmp_path, kds.list)
    assert 19 <= sum(kds.time.slept) < 22


@pytest.mark.parametrize("text", ["soon", "-5", "9" * 40, "", "Mon, 99 Foo 2026", "1e9"])
def test_a_retry_after_that_makes_no_sense_is_ignored(kds: FakeKds, tmp_path: Path, text: str) -> None:
    kds.next(Reply(status=429, headers={"Retry-After": text}))
    fetch(kds, tmp_path, kds.list)
    assert sum(kds.time.slept) < 5


def test_a_retry_after_beyond_the_budget_ends_at_once_and_holds_back_everybody(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(Reply(status=429, headers={"Retry-After": "600"}))
    with pytest.raises(CollateralUnavailable) as caught:
        fetch(kds, tmp_path, kds.list)
    assert caught.value.code == "collateral.rate-limited"
    assert 600 <= (caught.value.retry_after or 0) < 602
    assert kds.time.slept == []
    with pytest.raises(CollateralUnavailable, match="not asked for"):
        fetch(kds, tmp_path, kds.chain)  # something else, by another process: the hold is shared
    assert len(kds.asked) == 1


def test_404_is_explained_and_not_tried_again(kds: FakeKds, tmp_path: Path) -> None:
    prepared(kds, tmp_path)
    other = wanted_vcek(SnpProduct.GENOA, CHIP, TcbVersion(9, 0, 23, 72).to_bytes())
    with pytest.raises(CollateralNotFound) as caught:
        fetch(kds, tmp_path, other)
    assert len(kds.asked) == 1
    assert "bootloader=9 tee=0 snp=23 microcode=72" in str(caught.value)
    assert "Genoa" in str(caught.value)
    for word in ("REPORTED_TCB", "Bergamo", "masked", "first 8 bytes"):
        assert word in (caught.value.hint or "")


def test_500_is_tried_again_and_then_given_up(kds: FakeKds, tmp_path: Path) -> None:
    kds.always = Reply(status=500)
    with pytest.raises(CollateralUnavailable, match="answered 500; tried 4 times"):
        fetch(kds, tmp_path, kds.list)
    assert len(kds.asked) == 4


@pytest.mark.parametrize("status", [204, 400, 401, 403, 418])
def test_another_status_is_not_tried_again(kds: FakeKds, tmp_path: Path, status: int) -> None:
    kds.always = Reply(status=status, body=b"")
    with pytest.raises(CollateralUnavailable, match=f"answered {status}"):
        fetch(kds, tmp_path, kds.list)
    assert len(kds.asked) == 1


def test_a_slow_answer_ends_when_the_time_is_over(kds: FakeKds, tmp_path: Path) -> None:
    kds.always = Reply(delay=20)
    started = time.monotonic()
    with pytest.raises(CollateralUnavailable, match=r"no (complete )?answer"):
        client(kds, tmp_path, tries=1).fetch(kds.list, Budget(Clock(), 0.3))
    assert time.monotonic() - started < 2


def test_an_answer_that_drips_in_ends_when_the_time_is_over(kds: FakeKds, tmp_path: Path) -> None:
    kds.always = Reply(drip=0.05)  # every byte arrives well within the time allowed for one
    started = time.monotonic()
    with pytest.raises(CollateralUnavailable, match="no complete answer within"):
        client(kds, tmp_path, tries=1).fetch(kds.list, Budget(Clock(), 0.4))
    assert time.monotonic() - started < 2


def test_a_truncated_answer_is_tried_again(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(Reply(cut=100))
    fetch(kds, tmp_path, kds.list)
    assert len(kds.asked) == 2


def test_a_truncated_answer_without_a_length_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(Reply(cut=100, length=False))
    with pytest.raises(CollateralRefused):
        fetch(kds, tmp_path, kds.list)


@pytest.mark.parametrize("length", [True, False])
def test_an_oversized_answer_is_refused_whether_it_says_so_or_not(kds: FakeKds, tmp_path: Path, length: bool) -> None:
    kds.always = Reply(body=b"0" * (kds.leaf.max_body + 1), length=length)
    assert "larger than" in refused(kds, tmp_path, CollateralRefused)


def test_a_redirect_is_not_followed(kds: FakeKds, tmp_path: Path) -> None:
    kds.next(Reply(status=302, body=b"", headers={"Location": f"{kds.url}{kds.leaf.path}"}))
    assert "redirects" in refused(kds, tmp_path, CollateralRefused)
    assert len(kds.asked) == 1


def test_nobody_listening_is_unavailable_and_brief(tmp_path: Path, kds: FakeKds) -> None:
    with FakeKds(kds.pki) as gone:
        source = gone.source(tmp_path)
    with pytest.raises(CollateralUnavailable, match="Connection refused"):
        source.get(gone.list, kds.pki.anchors, NOW, gone.time.budget())


def test_a_body_that_is_no_certificate_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.always = Reply(body=b"<html>maintenance</html>")
    assert "holds 0 VCEKs" in refused(kds, tmp_path, CollateralRefused)


def test_another_chips_vcek_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    other = FakeAmdPki(leaf=Leaf(hwid=b"\xee" * 64))
    kds.vcek = lambda: other.leaf_der
    assert "is for chip eeee" in lying(kds, tmp_path)


def test_a_vcek_of_another_tcb_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.vcek = lambda: FakeAmdPki(leaf=Leaf(tcb=TcbVersion(9, 0, 23, 72))).leaf_der
    assert "is for TCB bootloader=9" in lying(kds, tmp_path)


def test_a_vcek_of_another_product_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.vcek = lambda: FakeAmdPki(product=SnpProduct.MILAN).leaf_der
    assert "Milan" in lying(kds, tmp_path)


def test_a_vcek_signed_by_somebody_else_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.vcek = lambda: FakeAmdPki(leaf=Leaf(signer="mallory")).leaf_der
    assert "does not verify" in lying(kds, tmp_path)


def test_a_whole_chain_of_somebody_else_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    mallory = FakeAmdPki(ark=Ca(key="mallory-root"))
    with FakeKds(mallory) as lying_kds, pytest.raises(CollateralRefused, match="no test root names it"):
        lying_kds.source(tmp_path).get(lying_kds.chain, kds.pki.anchors, NOW, kds.time.budget())


def test_under_amds_roots_a_test_chain_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    for wanted in (kds.chain, kds.list, kds.leaf):
        with pytest.raises(CollateralRefused):
            kds.source(tmp_path).get(wanted, TrustAnchors.amd(), NOW, kds.time.budget())


@pytest.mark.parametrize("ask", [Ca(signer="mallory"), Ca(ca=False), Ca(path_length=1)])
def test_a_chain_whose_link_is_wrong_is_refused(tmp_path: Path, ask: Ca) -> None:
    with FakeKds(FakeAmdPki(ask=ask)) as kds, pytest.raises(CollateralRefused, match="does not verify"):
        fetch(kds, tmp_path, kds.chain)


def test_a_list_that_the_root_did_not_sign_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.crl = lambda: kds.pki.crl(signer="mallory")
    with pytest.raises(CollateralRefused, match="not signed by a trusted root"):
        fetch(kds, tmp_path, kds.list)


def test_a_list_of_another_product_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    kds.crl = FakeAmdPki(product=SnpProduct.MILAN).crl
    with pytest.raises(CollateralRefused, match="ARK-Milan"):
        fetch(kds, tmp_path, kds.list)


def test_an_older_list_never_replaces_a_newer_one(kds: FakeKds, tmp_path: Path) -> None:
    fetch(kds, tmp_path, kds.list)
    kds.crl = lambda: kds.pki.crl(this_update=datetime(2026, 4, 1, tzinfo=UTC))
    held = kds.source(tmp_path).get(kds.list, kds.pki.anchors, NOW + timedelta(days=2), kds.time.budget())
    assert held is not None
    assert held.item.crl is not None
    assert held.item.crl.this_update == datetime(2026, 5, 1, tzinfo=UTC)
    assert "2026-04-01" in str(held.problem)


def test_a_leaf_under_a_new_intermediate_is_accepted_because_the_chain_is_asked_for_again(
    kds: FakeKds, tmp_path: Path
) -> None:
    fetch(kds, tmp_path)  # no chain is cached, and ours is not shipped
    assert kds.asked == [kds.leaf.path, kds.chain.path]


def test_vceks_are_asked_for_ten_seconds_apart(kds: FakeKds, tmp_path: Path) -> None:
    prepared(kds, tmp_path)
    asker = client(kds, tmp_path)
    for _ in range(3):
        asker.fetch(kds.leaf, kds.time.budget())
    assert kds.time.slept == [10.0, 10.0]


def test_processes_that_share_a_cache_share_the_turns(kds: FakeKds, tmp_path: Path) -> None:
    prepared(kds, tmp_path)
    client(kds, tmp_path).fetch(kds.leaf, kds.time.budget())
    with pytest.raises(CollateralPaced) as caught:
        client(kds, tmp_path).fetch(kds.leaf, kds.time.budget(3))
    assert caught.value.retry_after == pytest.approx(10)
    assert len(kds.asked) == 1
    client(kds, tmp_path).fetch(kds.list, kds.time.budget(3))  # lists and chains are not limited


def test_a_failure_that_leaves_no_turn_for_another_try_is_the_error_and_holds_back_everybody(
    kds: FakeKds, tmp_path: Path
) -> None:
    kds.always = Reply(status=500)
    with pytest.raises(CollateralUnavailable, match="answered 500; tried 1 time"):
        fetch(kds, tmp_path, seconds=8)
    with pytest.raises(CollateralUnavailable, match="not asked for"):
        fetch(kds, tmp_path, kds.list, seconds=8)
    assert len(kds.asked) == 1


def test_a_caller_may_refuse_to_wait_for_its_turn(kds: FakeKds, tmp_path: Path) -> None:
    asker = KdsClient(KdsSettings(url=kds.url, turn_wait=4.0), tmp_path, kds.time.clock)
    asker.fetch(kds.leaf, kds.time.budget())
    with pytest.raises(CollateralPaced):
        asker.fetch(kds.leaf, kds.time.budget())
    assert kds.time.slept == []


@pytest.mark.parametrize("content", [b"", b"x", b"nan nan", b"1 2 3", b"1e300 1e300", b"-5 -5", b"9" * 5000])
def test_a_damaged_pace_file_counts_as_empty(kds: FakeKds, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pace").write_bytes(content)
    client(kds, tmp_path).fetch(kds.leaf, kds.time.budget(1))
    assert len(kds.asked) == 1


@pytest.mark.parametrize(
    "url",
    ["", "kds", "ftp://x", "https://", "https://x?y", "https://u:p@x", "https://x#y", "https://x y", "https://x:99999"],
)
def test_a_base_url_is_http_and_nothing_else(url: str) -> None:
    with pytest.raises(ValueError, match="want"):
        base_url(url)
    assert base_url("https://kds.example:8443/amd/") == "https://kds.example:8443/amd"


def lying(kds: FakeKds, folder: Path) -> str:
    """The VCEK is refused although the chain is there; returns the message."""
    prepared(kds, folder)
    with pytest.raises(CollateralRefused) as caught:
        fetch(kds, folder)
    assert kds.source(folder).cached(kds.leaf, kds.pki.anchors, NOW) is None
    return str(caught.value)


def client(kds: FakeKds, folder: Path, tries: int = 4) -> KdsClient:
    """A client without a cache."""
    settings = KdsSettings(url=kds.url, timeouts=Timeouts(2.0, 2.0), tries=tries)
    return KdsClient(settings, folder, kds.time.clock)


def test_whoever_asks_nobody_loads_no_http_client() -> None:
    code = (
        "import sys; import attest.cli.evidence_verify, attest.cli.collateral_actions, attest.broker.opening; "
        "print('requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

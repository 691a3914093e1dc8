"""Intel's collateral through the cache: verified before it is kept, never older than what was seen, next service asked."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from attest.collateral.clock import Budget, Clock
from attest.collateral.errors import CollateralGone, CollateralNotFound, CollateralRefused, CollateralUnavailable
from attest.collateral.folder import files_below
from attest.collateral.intel_bundle import intel_items_of_file
from attest.collateral.intel_check import check_intel_answer, check_intel_parts
from attest.collateral.intel_folder import IntelFolder
from attest.collateral.intel_source import IntelHeld, PcsSource
from attest.collateral.intel_wanted import Channel, IntelKind, IntelWanted, Tee, intel_wanted_from_name
from attest.collateral.limits import Tls
from attest.emulator.td_pki import Validity
from attest.endorsement.intel import INTEL_ROOT_KEY, INTEL_ROOT_SPKI, IntelAnchors
from attest.endorsement.intel_pool import IntelCollateral
from attest.evidence.intel_certificate import IntelRole
from tests.fakes.intel_pki import FMSPC, LIFE, NOW, FakeIntelPki, stamp
from tests.fakes.kds import Reply
from tests.fakes.pcs import EVERYTHING, IDENTITY, PLATFORM_LIST, PROCESSOR_LIST, ROOT_LIST, TCB, FakePcs

WORLD = FakeIntelPki()
DAY = timedelta(days=1)
OLDER = {"issueDate": stamp(NOW - 3 * DAY)}
NEWER = {"issueDate": stamp(NOW - DAY), "tcbEvaluationDataNumber": 21}


@pytest.fixture
def pcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePcs]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakePcs(WORLD) as service:
        yield service


def get(
    pcs: FakePcs, folder: Path, wanted: IntelWanted = TCB, *, now: datetime = NOW, refresh: bool = False,
    source: PcsSource | None = None, anchors: IntelAnchors = WORLD.anchors,
) -> IntelHeld:  # fmt: skip
    held = (source or pcs.source(folder)).get(wanted, anchors, now, pcs.time.budget(), refresh=refresh)
    assert held is not None
    return held


def refused(pcs: FakePcs, folder: Path, match: str, wanted: IntelWanted = TCB) -> None:
    with pytest.raises(CollateralRefused, match=match):
        get(pcs, folder, wanted)
    assert pcs.source(folder, online=False).cached(wanted, WORLD.anchors, NOW) is None


def test_everything_a_quote_needs_is_fetched_once_and_verifies_it(pcs: FakePcs, tmp_path: Path) -> None:
    for _ in range(2):
        pool = IntelCollateral()
        for wanted in EVERYTHING:
            pool += get(pcs, tmp_path, wanted).item.collateral
        assert WORLD.verify(collateral=pool).revocation == "good"
    assert len(pcs.asked) == len(EVERYTHING)


def test_an_enclaves_documents_are_asked_for_on_their_own_path(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.world = FakeIntelPki(version=3, layout="sgx")
    found = get(pcs, tmp_path, IntelWanted(IntelKind.TCB_INFO, Tee.SGX, FMSPC)).item
    assert found.collateral.tcb_infos[0].id == "SGX"
    assert get(pcs, tmp_path, IntelWanted(IntelKind.QE_IDENTITY, Tee.SGX)).item.number == 20
    assert all(path.startswith("/sgx/") for path in pcs.asked)


@pytest.mark.parametrize("wanted", [PLATFORM_LIST, PROCESSOR_LIST, ROOT_LIST], ids=str)
def test_lists_come_in_hexadecimal_too(pcs: FakePcs, tmp_path: Path, wanted: IntelWanted) -> None:
    pcs.hex_lists = True
    assert get(pcs, tmp_path, wanted).item.number == 7


def test_the_cache_alone_serves_who_asks_nobody(pcs: FakePcs, tmp_path: Path) -> None:
    get(pcs, tmp_path)
    offline = pcs.source(tmp_path, online=False)
    assert get(pcs, tmp_path, source=offline, now=NOW + 20 * DAY).item.number == 20
    assert offline.get(IDENTITY, WORLD.anchors, NOW, pcs.time.budget()) is None


@pytest.mark.parametrize(
    ("world", "match"),
    [
        (WORLD.with_(tcb_info={"fmspc": "00906ED50000"}), "for FMSPC 00906ed50000"),
        (WORLD.with_(tcb_info={"id": "SGX"}), "is of SGX, want TDX"),
        (WORLD.with_(json_key="PCK"), "verifies under no TCB signer"),
        (WORLD.with_(certificates={"TCB_SIGNING": {"issuer": "PLATFORM_CA"}}), "does not verify"),
        (WORLD.with_(certificates={"ROOT": {"key": "other"}}), "does not verify"),
        (WORLD.with_(tcb_info={"nextUpdate": stamp(NOW)}), "was current until"),
        (WORLD.with_(tcb_info={"issueDate": stamp(NOW + DAY)}), "in the future"),
        (WORLD.with_(certificates={"TCB_SIGNING": {"validity": Validity(LIFE.start, NOW - DAY)}}), "was current until"),
    ],
)  # fmt: skip
def test_a_document_that_is_not_what_was_asked_for_is_not_kept(
    pcs: FakePcs, tmp_path: Path, world: FakeIntelPki, match: str
) -> None:
    pcs.world = world
    refused(pcs, tmp_path, match)


def test_an_identity_of_another_enclave_is_not_kept(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.world = WORLD.with_(qe_identity={"id": "QE"})
    refused(pcs, tmp_path, "is of QE, want TD_QE", IDENTITY)


@pytest.mark.parametrize("wanted", [PLATFORM_LIST, ROOT_LIST], ids=str)
def test_a_list_that_is_forged_ended_or_another_authoritys_is_not_kept(
    pcs: FakePcs, tmp_path: Path, wanted: IntelWanted
) -> None:
    issuer, other = ("ROOT", "PLATFORM_CA") if wanted is ROOT_LIST else ("PLATFORM_CA", "PROCESSOR_CA")
    pcs.world = WORLD.with_(crls={issuer: {"key": "mallory"}})
    refused(pcs, tmp_path / "forged", "signed by no", wanted)
    pcs.world = WORLD.with_(crls={issuer: {"validity": Validity(NOW - 9 * DAY, NOW - DAY)}})
    refused(pcs, tmp_path / "ended", "was current until", wanted)
    pcs.world = WORLD
    pcs.next(Reply(body=WORLD.crl(other)))
    refused(pcs, tmp_path / "other", "the answer is a list of", wanted)
    pcs.next(Reply(body=WORLD.root_der))
    refused(pcs, tmp_path / "none", "holds 0 lists", wanted)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"tcbInfo": {}, "signature": ""}', b"\xff" * 100])
def test_a_body_that_is_no_document_is_not_kept(pcs: FakePcs, tmp_path: Path, body: bytes) -> None:
    pcs.always = Reply(body=body)
    refused(pcs, tmp_path, "does not verify")


@pytest.mark.parametrize("chain", ["", "nothing", "-----BEGIN CERTIFICATE-----"])
def test_a_document_without_its_issuer_chain_is_not_kept(pcs: FakePcs, tmp_path: Path, chain: str) -> None:
    pcs.always = Reply(headers={"TCB-Info-Issuer-Chain": chain})
    with pytest.raises(CollateralRefused):
        get(pcs, tmp_path)


def test_a_cache_that_ignores_the_number_is_refused(pcs: FakePcs, tmp_path: Path) -> None:
    numbered = [replace(item, channel=Channel.parse("20")) for item in (TCB, IDENTITY)]
    assert [get(pcs, tmp_path, wanted).item.number for wanted in numbered] == [20, 20]
    pcs.ignores_numbers = True
    for wanted in (TCB, IDENTITY):
        refused(pcs, tmp_path, "is of evaluation data number 20", replace(wanted, channel=Channel.parse("21")))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=404), CollateralNotFound),
        (Reply(status=410), CollateralGone),
        (Reply(status=500), CollateralUnavailable),
        (Reply(status=302, headers={"Location": "http://elsewhere"}), CollateralRefused),
        (Reply(cut=10), CollateralUnavailable),
        (Reply(body=bytes(5 << 20)), CollateralRefused),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_and_the_last_good_one_stays(
    pcs: FakePcs, tmp_path: Path, reply: Reply, error: type[CollateralUnavailable]
) -> None:
    get(pcs, tmp_path)
    pcs.always = reply
    held = get(pcs, tmp_path, now=NOW + 2 * DAY)
    assert held.item.number == 20
    assert type(held.problem) is error


def test_a_service_that_says_later_is_asked_later(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.next(Reply(status=429, headers={"Retry-After": "7"}))
    assert get(pcs, tmp_path).item.number == 20
    assert max(pcs.time.slept) >= 7


def test_a_slow_service_is_given_up(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.always = Reply(drip=0.2)
    source = pcs.source(tmp_path, clock=None)
    with pytest.raises(CollateralUnavailable, match="no complete answer"):
        source.get(TCB, WORLD.anchors, NOW, pcs.time.budget(0.5))


@pytest.mark.parametrize("reply", [Reply(status=404), Reply(status=410), Reply(status=503), Reply(body=b"{}")])
def test_the_next_service_is_asked_where_one_has_nothing_usable(pcs: FakePcs, tmp_path: Path, reply: Reply) -> None:
    pcs.always = reply
    with FakePcs(WORLD) as second:
        held = get(pcs, tmp_path, source=pcs.source(tmp_path, second.url))
        assert held.problem is None
        assert second.asked == [TCB.path]


def test_an_ended_answer_of_a_lagging_cache_makes_the_next_one_be_asked(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.world = WORLD.with_(tcb_info={"nextUpdate": stamp(NOW - DAY)})
    with FakePcs(WORLD) as second:
        assert get(pcs, tmp_path, source=pcs.source(tmp_path, second.url)).item.expires > NOW


def test_what_is_a_day_old_is_asked_for_again_and_a_newer_one_replaces_it(pcs: FakePcs, tmp_path: Path) -> None:
    get(pcs, tmp_path)
    pcs.world = WORLD.with_(tcb_info=NEWER)
    assert get(pcs, tmp_path, now=NOW + DAY / 2).item.number == 20
    assert get(pcs, tmp_path, now=NOW + DAY).item.number == 21


@pytest.mark.parametrize("older", [OLDER, {"tcbEvaluationDataNumber": 19}, {**OLDER, "tcbEvaluationDataNumber": 25}])
def test_nothing_older_than_what_was_seen_is_taken_even_when_the_cache_was_emptied(
    pcs: FakePcs, tmp_path: Path, older: dict[str, object]
) -> None:
    get(pcs, tmp_path)
    pcs.world = WORLD.with_(tcb_info=older)
    held = get(pcs, tmp_path, refresh=True)
    assert (held.item.number, type(held.problem)) == (20, CollateralRefused)
    (tmp_path / "items" / TCB.name).unlink()
    (tmp_path / "failures" / TCB.name).unlink()
    refused(pcs, tmp_path, "older than number 20")


def test_an_older_list_is_not_taken_by_number_or_date(pcs: FakePcs, tmp_path: Path) -> None:
    get(pcs, tmp_path, PLATFORM_LIST)
    for changes in ({"number": 6}, {"validity": Validity(NOW - 9 * DAY, NOW + DAY)}):
        pcs.world = WORLD.with_(crls={"PLATFORM_CA": changes})
        assert isinstance(get(pcs, tmp_path, PLATFORM_LIST, refresh=True).problem, CollateralRefused)


def test_an_older_file_put_back_into_the_cache_counts_as_absent(pcs: FakePcs, tmp_path: Path) -> None:
    get(pcs, tmp_path)
    old = (tmp_path / "items" / TCB.name).read_bytes()
    pcs.world = WORLD.with_(tcb_info=NEWER)
    get(pcs, tmp_path, refresh=True)
    (tmp_path / "items" / TCB.name).write_bytes(old)
    assert pcs.source(tmp_path, online=False).cached(TCB, WORLD.anchors, NOW) is None
    assert get(pcs, tmp_path).item.number == 21


def test_other_roots_have_numbers_of_their_own(pcs: FakePcs, tmp_path: Path) -> None:
    get(pcs, tmp_path)
    other = WORLD.with_(certificates={"ROOT": {"key": "other root"}}, tcb_info=OLDER)
    pcs.world = other
    held = get(pcs, tmp_path, anchors=other.anchors)
    assert held.item.root != f"test:{WORLD.anchors.test_roots[0].spki_sha256.hex()}"
    assert len(list((tmp_path / "seen").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"schema": "attest.collateral.seen/1", "number": "9", "issued": 5}'])
def test_a_damaged_memory_counts_as_none(pcs: FakePcs, tmp_path: Path, damage: bytes) -> None:
    get(pcs, tmp_path)
    (mark,) = (tmp_path / "seen").iterdir()
    mark.write_bytes(damage)
    (tmp_path / "items" / TCB.name).unlink()
    pcs.world = WORLD.with_(tcb_info=OLDER)
    assert get(pcs, tmp_path).problem is None


def test_many_threads_ask_once(pcs: FakePcs, tmp_path: Path) -> None:
    pcs.always = Reply(delay=0.1)
    source, clock = pcs.source(tmp_path, clock=Clock()), Clock()
    found: list[IntelHeld | None] = []

    def ask() -> None:
        found.append(source.get(TCB, WORLD.anchors, NOW, Budget(clock, 10.0)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [held is not None and held.item.number for held in found] == [20] * 8
    assert len(pcs.asked) == 1


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_a_pccs_is_authenticated_by_the_authority_that_was_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakePcs(WORLD, tls=tmp_path) as pcs:
        with pytest.raises(CollateralUnavailable, match="certificate"):
            get(pcs, tmp_path / "system")
        own = pcs.source(tmp_path / "own", tls=Tls(ca=tmp_path / "ca.pem"))
        assert get(pcs, tmp_path, source=own).item.number == 20
        unverified = pcs.source(tmp_path / "unverified", tls=Tls(verify=False))
        assert get(pcs, tmp_path, source=unverified).item.number == 20


def test_intels_root_key_is_the_one_that_is_pinned_by_digest() -> None:
    assert hashlib.sha256(INTEL_ROOT_SPKI).digest() == INTEL_ROOT_KEY


def test_intels_real_root_lists_verify_without_a_certificate(vectors: Path) -> None:
    crls = [
        item
        for item in IntelFolder(vectors / "tdx" / "collateral").current().crls
        if item.issuer_role is IntelRole.ROOT
    ]
    assert crls
    for crl in crls:
        item = check_intel_answer(ROOT_LIST, crl.der, b"", IntelAnchors.intel())
        assert (item.root, item.parts) == ("intel", (crl.der,))


def test_intels_real_documents_verify_as_they_were_served(vectors: Path) -> None:
    folder = vectors / "tdx" / "collateral"
    signers = [item.der for item in IntelFolder(folder).current().certificates]
    verified = 0
    for path in files_below(folder):
        for entry in intel_items_of_file(path.read_bytes(), NOW):
            wanted = intel_wanted_from_name(entry.name)
            if not wanted.is_list:
                item = check_intel_parts(wanted, (path.read_bytes(), *signers), IntelAnchors.intel())
                assert check_intel_parts(wanted, item.parts, IntelAnchors.intel()) == item
                verified += 1
    assert verified == 24


def test_intels_real_lists_of_pck_certificates_verify_with_their_authority(vectors: Path) -> None:
    pool = IntelFolder(vectors / "tdx" / "collateral").current()
    lists = [crl for crl in pool.crls if crl.issuer_role is IntelRole.PLATFORM_CA]
    assert lists
    for crl in lists:
        chain = tuple(item.der for item in pool.certificates)
        assert check_intel_parts(PLATFORM_LIST, (crl.der, *chain), IntelAnchors.intel()).root == "intel"

"""The cache: shared by processes, believed by nobody, and not worn out by an outage."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attest.collateral.cache import Cache, Failure
from attest.collateral.clock import Clock
from attest.collateral.errors import CacheUnusable, CollateralNotFound, CollateralPaced, CollateralUnavailable
from attest.collateral.source import CollateralSource, Held
from attest.collateral.status import cache_failures, cache_status
from attest.collateral.wanted import Wanted, wanted_vcek
from attest.endorsement.anchors import TrustAnchors
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import CHIP, NOW, FakeAmdPki, Leaf
from tests.fakes.kds import FakeKds, Reply


def get(
    kds: FakeKds,
    folder: Path,
    wanted: Wanted | None = None,
    now: datetime = NOW,
    *,
    source: CollateralSource | None = None,
) -> Held:
    """Through a fresh source, as another process would."""
    held = (source or kds.source(folder)).get(wanted or kds.leaf, kds.pki.anchors, now, kds.time.budget())
    assert held is not None
    return held


def filled(kds: FakeKds, folder: Path) -> Path:
    """A cache with chain, VCEK and list."""
    for wanted in (kds.chain, kds.leaf, kds.list):
        get(kds, folder, wanted)
    kds.asked.clear()
    return folder


def test_a_vcek_is_asked_for_once_and_kept_for_ever(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    held = get(kds, tmp_path, now=NOW + timedelta(days=3000))
    assert held.item.ders == (kds.pki.leaf_der,)
    assert held.fetched == NOW
    assert kds.asked == []


def test_a_chain_is_asked_for_again_after_a_month_and_a_list_after_a_day(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    get(kds, tmp_path, kds.list, NOW + timedelta(hours=23))
    get(kds, tmp_path, kds.chain, NOW + timedelta(days=29))
    assert kds.asked == []
    get(kds, tmp_path, kds.list, NOW + timedelta(hours=25))
    get(kds, tmp_path, kds.chain, NOW + timedelta(days=31))
    assert kds.asked == [kds.list.path, kds.chain.path]


def test_the_last_good_list_stays_in_use_through_an_outage_with_its_age(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    kds.always = Reply(status=500)
    held = get(kds, tmp_path, kds.list, NOW + timedelta(days=2))
    assert held.fetched == NOW
    assert "answered 500" in str(held.problem)
    asked = len(kds.asked)
    again = get(kds, tmp_path, kds.list, NOW + timedelta(days=2, seconds=5))
    assert len(kds.asked) == asked  # the outage is remembered
    assert "remembered" in str(again.problem) or "not asked" in str(again.problem)


def test_a_list_past_its_next_update_is_asked_for_even_if_it_is_young(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    kds.crl = lambda: kds.pki.crl(
        this_update=datetime(2026, 7, 1, tzinfo=UTC), next_update=datetime(2026, 9, 1, tzinfo=UTC)
    )
    get(kds, tmp_path, kds.list, datetime(2026, 6, 30, 20, tzinfo=UTC))
    held = get(kds, tmp_path, kds.list, datetime(2026, 7, 1, 1, tzinfo=UTC))
    assert held.item.crl is not None
    assert held.item.crl.this_update == datetime(2026, 7, 1, tzinfo=UTC)


def test_a_service_that_itself_has_only_a_stale_list_is_asked_every_five_minutes(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    late = datetime(2026, 8, 1, tzinfo=UTC)
    for seconds in (0, 10, 20, 299):
        get(kds, tmp_path, kds.list, late + timedelta(seconds=seconds))
    assert len(kds.asked) == 1
    get(kds, tmp_path, kds.list, late + timedelta(seconds=301))
    assert len(kds.asked) == 2


def test_not_found_is_remembered_for_ten_minutes(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    other = wanted_vcek(SnpProduct.GENOA, b"\xee" * 64, kds.pki.tcb.to_bytes())
    with pytest.raises(CollateralNotFound):
        get(kds, tmp_path, other)
    with pytest.raises(CollateralUnavailable, match="remembered") as caught:
        get(kds, tmp_path, other, NOW + timedelta(minutes=9))
    assert caught.value.code == "collateral.not-found"
    assert len(kds.asked) == 1
    with pytest.raises(CollateralNotFound):
        get(kds, tmp_path, other, NOW + timedelta(minutes=11))
    assert len(kds.asked) == 2


def test_our_own_pace_is_not_remembered_as_a_failure(kds: FakeKds, tmp_path: Path) -> None:
    get(kds, tmp_path, kds.chain)
    (tmp_path / "pace").write_text(f"{kds.time.now + 100} 0")
    with pytest.raises(CollateralUnavailable):
        get(kds, tmp_path)
    assert cache_failures(kds.source(tmp_path), NOW) == ()


def test_what_is_cached_is_there_without_the_service(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    offline = kds.source(tmp_path, online=False)
    assert get(kds, tmp_path, source=offline).item.ders == (kds.pki.leaf_der,)
    assert offline.get(
        wanted_vcek(SnpProduct.GENOA, b"\xee" * 64, kds.pki.tcb.to_bytes()), kds.pki.anchors, NOW, kds.time.budget()
    ) is None  # fmt: skip


def test_under_other_anchors_the_same_cache_holds_nothing(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    source = kds.source(tmp_path, online=False)
    for wanted in (kds.leaf, kds.chain, kds.list):
        assert source.cached(wanted, kds.pki.anchors, NOW) is not None
        assert source.cached(wanted, TrustAnchors.amd(), NOW) is None


def damage_object(folder: Path, kds: FakeKds, data: bytes) -> None:
    entry = json.loads((folder / "items" / kds.leaf.name).read_text())
    (folder / "objects" / entry["objects"][0]).write_bytes(data)


def damage_item(folder: Path, kds: FakeKds, data: bytes) -> None:
    (folder / "items" / kds.leaf.name).write_bytes(data)


@pytest.mark.parametrize("damage", [damage_object, damage_item])
@pytest.mark.parametrize(
    "data", [b"", b"x", b"{}", b"[]", b'{"schema": "attest.collateral.item/1"}', b"\0" * (1 << 21)]
)
def test_damage_is_noticed_and_the_thing_fetched_again(
    kds: FakeKds, tmp_path: Path, damage: object, data: bytes
) -> None:
    filled(kds, tmp_path)
    assert callable(damage)
    damage(tmp_path, kds, data)
    assert [item.state for item in cache_status(kds.source(tmp_path), kds.pki.anchors, NOW)].count("damaged") == 1
    assert get(kds, tmp_path).item.ders == (kds.pki.leaf_der,)
    assert kds.asked == [kds.leaf.path]


@pytest.mark.parametrize("change", ["objects/../../x", "another chip's", "schema", "future", "no zone"])
def test_an_entry_altered_by_hand_is_not_believed(kds: FakeKds, tmp_path: Path, change: str) -> None:
    filled(kds, tmp_path)
    path = tmp_path / "items" / kds.leaf.name
    entry = json.loads(path.read_text())
    if change == "another chip's":
        other = FakeAmdPki(leaf=Leaf(hwid=b"\xee" * 64)).leaf_der
        import hashlib

        entry["objects"] = [hashlib.sha256(other).hexdigest()]
        (tmp_path / "objects" / entry["objects"][0]).write_bytes(other)
    elif change == "schema":
        entry["schema"] = "attest.collateral.item/2"
    elif change == "future":
        entry["fetched"] = (NOW + timedelta(days=400)).isoformat()
    elif change == "no zone":
        entry["fetched"] = "2026-01-01T00:00:00"
    else:
        entry["objects"] = ["../../x"]
    path.write_text(json.dumps(entry))
    assert kds.source(tmp_path).cached(kds.leaf, kds.pki.anchors, NOW) is None
    assert get(kds, tmp_path).item.ders == (kds.pki.leaf_der,)


@pytest.mark.parametrize("until", ["2099-01-01T00:00:00+00:00", "never", "2026-06-01T12:00:01"])
def test_a_damaged_memory_of_a_failure_does_not_stop_anything(kds: FakeKds, tmp_path: Path, until: str) -> None:
    get(kds, tmp_path, kds.chain)
    value = {"schema": "attest.collateral.failure/1", "code": "x", "message": "y", "until": until}
    (tmp_path / "failures" / kds.leaf.name).write_text(json.dumps(value))
    get(kds, tmp_path)


def test_a_change_by_another_process_is_seen(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    mine = kds.source(tmp_path)
    get(kds, tmp_path, kds.list, source=mine)
    kds.crl = lambda: kds.pki.crl(this_update=datetime(2026, 5, 20, tzinfo=UTC))
    get(kds, tmp_path, kds.list, NOW + timedelta(days=2))
    held = mine.cached(kds.list, kds.pki.anchors, NOW + timedelta(days=2))
    assert held is not None
    assert held.fetched == NOW + timedelta(days=2)


def test_the_folders_are_private_and_no_half_written_file_stays(kds: FakeKds, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    filled(kds, cache)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert not [name for name in names if name.startswith(".")]
    assert len(list((cache / "objects").iterdir())) == 4  # leaf, ASK, ARK, list: each once, by digest


def test_a_cache_that_cannot_be_written_is_said_to_be_unusable(kds: FakeKds, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(CacheUnusable, match="cache"):
        get(kds, tmp_path / "cache")


def _fetch_in_process(url_port: int, folder: str, barrier: object, results: object) -> None:
    """Another process with a client of its own; only the folder is shared."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    from attest.collateral.clock import Budget
    from attest.collateral.kds_settings import KdsSettings

    clock = Clock()
    source = CollateralSource(Cache(Path(folder), clock), KdsSettings(url=f"http://127.0.0.1:{url_port}"), clock)
    root = TrustAnchors.test_only(Path(folder, "root.der").read_bytes())
    wanted = wanted_vcek(SnpProduct.GENOA, CHIP, FakeAmdPki().tcb.to_bytes())
    barrier.wait()  # type: ignore[attr-defined]
    held = source.get(wanted, root, NOW, Budget(clock, 8))
    results.put(None if held is None else held.item.ders[0])  # type: ignore[attr-defined]


def test_two_processes_that_want_the_same_thing_ask_once(kds: FakeKds, tmp_path: Path) -> None:
    get(kds, tmp_path, kds.chain)
    (tmp_path / "root.der").write_bytes(kds.pki.ark_der)
    kds.asked.clear()
    kds.always = Reply(delay=0.3)  # long enough for the second to arrive meanwhile
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.SimpleQueue()
    port = int(kds.url.rsplit(":", 1)[1])
    processes = [
        context.Process(target=_fetch_in_process, args=(port, str(tmp_path), barrier, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert [results.get(), results.get()] == [kds.pki.leaf_der] * 2
    assert kds.asked == [kds.leaf.path]


def test_threads_that_want_the_same_thing_ask_once(kds: FakeKds, tmp_path: Path) -> None:
    get(kds, tmp_path, kds.chain)
    kds.asked.clear()
    kds.always = Reply(delay=0.1)
    source = kds.source(tmp_path, clock=Clock())
    threads = [threading.Thread(target=get, args=(kds, tmp_path), kwargs={"source": source}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert kds.asked == [kds.leaf.path]


def test_nobody_waits_for_a_newer_list_while_the_last_one_is_good(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    source = kds.source(tmp_path, clock=Clock())
    with source.cache.lock(kds.list, 1):
        started = time.monotonic()
        held = get(kds, tmp_path, kds.list, NOW + timedelta(days=2), source=source)
    assert time.monotonic() - started < 0.5
    assert held.fetched == NOW
    assert kds.asked == []


def test_status_says_what_expires_when(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)

    def states(now: datetime) -> dict[str, str]:
        return {item.wanted.kind.value: item.state for item in cache_status(kds.source(tmp_path), kds.pki.anchors, now)}

    assert states(NOW) == {"chain": "good", "crl": "good", "vcek": "good"}
    assert states(datetime(2026, 6, 25, tzinfo=UTC))["crl"] == "expires-soon"
    assert states(datetime(2026, 7, 2, tzinfo=UTC))["crl"] == "stale"
    assert states(datetime(2032, 2, 1, tzinfo=UTC)) == {"chain": "expired", "crl": "stale", "vcek": "expired"}


def test_made_up_chip_ids_leave_nothing_behind_while_nobody_is_asked(kds: FakeKds, tmp_path: Path) -> None:
    filled(kds, tmp_path)
    (tmp_path / "pace").write_text(f"{kds.time.now + 100} {kds.time.now + 100}")
    before = sum(1 for _ in tmp_path.rglob("*"))
    for number in range(1, 600):
        wanted = wanted_vcek(SnpProduct.GENOA, number.to_bytes(64, "big"), kds.pki.tcb.to_bytes())
        with pytest.raises(CollateralPaced):
            get(kds, tmp_path, wanted)
    assert sum(1 for _ in tmp_path.rglob("*")) <= before + 256  # lock files, of which there are so many and no more
    assert not list((tmp_path / "failures").iterdir())


def test_memories_of_failures_that_no_longer_count_are_removed(kds: FakeKds, tmp_path: Path) -> None:
    cache = kds.source(tmp_path).cache
    cache.prepare()
    for number in range(100):
        wanted = wanted_vcek(SnpProduct.GENOA, bytes([1 + number]) * 64, kds.pki.tcb.to_bytes())
        cache.remember_failure(Failure(wanted, "x", "y", NOW))
        os.utime(tmp_path / "failures" / wanted.name, (kds.time.now - 7200,) * 2)
    assert len(list((tmp_path / "failures").iterdir())) <= 65

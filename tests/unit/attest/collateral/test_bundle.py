"""Bundles: the same cache gives the same bytes, and nothing is imported that does not verify."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.collateral.bundle import export_bundle, import_bundle
from attest.collateral.errors import BundleRefused
from attest.collateral.folder import CollateralFolder, load_collateral_dir
from attest.collateral.source import CollateralSource
from attest.endorsement.anchors import TrustAnchors
from attest.evidence.bundle import BundleItem, BundleMalformed, build_bundle, parse_bundle
from attest.evidence.collateral_file import read_collateral_file
from tests.fakes.amd_pki import NOW, FakeAmdPki, Leaf
from tests.fakes.kds import FakeKds

PKI = FakeAmdPki()


def items(kds: FakeKds, **crl: Any) -> list[BundleItem]:
    """Chain, VCEK and list of the fake chip maker."""
    return [
        BundleItem(kds.chain.name, NOW, (PKI.ask_der, PKI.ark_der)),
        BundleItem(kds.leaf.name, NOW, (PKI.leaf_der,)),
        BundleItem(kds.list.name, NOW, (PKI.crl(**crl),)),
    ]


def load(source: CollateralSource, *entries: BundleItem, now: datetime = NOW) -> dict[str, str]:
    """Import; outcomes by kind."""
    done = import_bundle(source, build_bundle(entries), PKI.anchors, now)
    return {item.wanted.kind.value: item.outcome for item in done}


def test_out_of_one_cache_and_into_another_every_byte_is_the_same(kds: FakeKds, tmp_path: Path) -> None:
    first, second = kds.source(tmp_path / "a"), kds.source(tmp_path / "b", online=False)
    for wanted in (kds.list, kds.chain, kds.leaf):
        first.get(wanted, PKI.anchors, NOW, kds.time.budget())
    data = export_bundle(first, PKI.anchors, NOW)
    assert data == export_bundle(kds.source(tmp_path / "a"), PKI.anchors, NOW + timedelta(days=1))
    import_bundle(second, data, PKI.anchors, NOW + timedelta(days=1))
    assert export_bundle(second, PKI.anchors, NOW) == data
    held = second.cached(kds.leaf, PKI.anchors, NOW)
    assert held is not None
    assert held.item.ders == (kds.pki.leaf_der,)


def test_a_second_import_keeps_what_is_there(kds: FakeKds, tmp_path: Path) -> None:
    source = kds.source(tmp_path)
    entries = items(kds)
    assert set(load(source, *entries).values()) == {"stored"}
    assert set(load(source, *entries).values()) == {"kept"}


def test_an_older_list_in_a_bundle_does_not_replace_a_newer_one(kds: FakeKds, tmp_path: Path) -> None:
    source = kds.source(tmp_path)
    load(source, *items(kds))
    older = BundleItem(
        kds.list.name, NOW + timedelta(hours=1), (PKI.crl(this_update=datetime(2026, 1, 1, tzinfo=UTC)),)
    )
    assert load(source, older, now=NOW + timedelta(hours=2)) == {"crl": "kept"}


def test_one_item_that_does_not_verify_refuses_the_whole_bundle(kds: FakeKds, tmp_path: Path) -> None:
    source = kds.source(tmp_path)
    chain, leaf, _ = items(kds)
    forged = BundleItem(kds.list.name, NOW, (PKI.crl(signer="mallory"),))
    with pytest.raises(BundleRefused, match="not signed"):
        load(source, chain, leaf, forged)
    assert list(source.cache.names()) == []


@pytest.mark.parametrize("other", [FakeAmdPki(leaf=Leaf(hwid=b"\xee" * 64)), FakeAmdPki(leaf=Leaf(signer="mallory"))])
def test_a_vcek_under_another_name_or_signer_is_refused(kds: FakeKds, tmp_path: Path, other: FakeAmdPki) -> None:
    chain, *_ = items(kds)
    with pytest.raises(BundleRefused):
        load(kds.source(tmp_path), chain, BundleItem(kds.leaf.name, NOW, (other.leaf_der,)))


def test_under_amds_roots_a_test_bundle_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused):
        import_bundle(kds.source(tmp_path), build_bundle(items(kds)), TrustAnchors.amd(), NOW)


def test_a_bundle_from_the_future_is_refused(kds: FakeKds, tmp_path: Path) -> None:
    (chain, *_) = items(kds)
    with pytest.raises(BundleRefused, match="future"):
        load(kds.source(tmp_path), chain._replace(fetched=NOW + timedelta(days=30)))


def test_the_extended_report_of_a_new_machine_can_be_imported(kds: FakeKds, tmp_path: Path) -> None:
    source = kds.source(tmp_path, online=False)
    for outcomes in ({"chain": "stored", "vcek": "stored"}, {"chain": "kept", "vcek": "kept"}):
        done = import_bundle(source, PKI.extended, PKI.anchors, NOW)
        assert {item.wanted.kind.value: item.outcome for item in done} == outcomes
    held = source.cached(kds.leaf, PKI.anchors, NOW)
    assert held is not None
    assert held.item.ders == (PKI.leaf_der,)


@pytest.mark.parametrize("data", [b"", b"hello", PKI.raw, PKI.ask_der, PKI.extended[:2000]])
def test_a_file_without_a_vcek_cannot_be_imported(kds: FakeKds, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleMalformed, match="no bundle"):
        import_bundle(kds.source(tmp_path), data, PKI.anchors, NOW)


def test_a_forged_certificate_in_a_report_is_not_imported(kds: FakeKds, tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="does not verify"):
        import_bundle(kds.source(tmp_path), FakeAmdPki(leaf=Leaf(signer="mallory")).extended, PKI.anchors, NOW)


def test_a_bundle_in_a_collateral_folder_is_read_like_its_certificates(kds: FakeKds, tmp_path: Path) -> None:
    (tmp_path / "anything").write_bytes(build_bundle(items(kds)))
    pool = load_collateral_dir(tmp_path)
    assert [len(part) for part in (pool.leaves, pool.intermediates, pool.roots, pool.crls)] == [1, 1, 1, 1]


def test_a_damaged_bundle_in_a_folder_is_named(tmp_path: Path, kds: FakeKds) -> None:
    (tmp_path / "b.json").write_bytes(build_bundle(items(kds))[:-5])
    warned: list[str] = []
    load_collateral_dir(tmp_path, warned.append)
    assert len(warned) == 1
    assert "bundle" in warned[0]


def test_a_folder_is_read_again_when_a_file_below_it_changes(tmp_path: Path) -> None:
    folder = CollateralFolder(tmp_path)
    assert folder.current().leaves == ()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "leaf").write_bytes(PKI.leaf_der)
    assert len(folder.current().leaves) == 1
    (tmp_path / "deep" / "leaf").unlink()
    assert folder.current().leaves == ()


def changed(change: str, kds: FakeKds) -> bytes:
    value: Any = json.loads(build_bundle(items(kds)))
    entry = value["items"][0]
    match change:
        case "schema":
            value["schema"] = "attest.collateral.bundle/2"
        case "member":
            value["more"] = 1
        case "items":
            value["items"] = {}
        case "twice":
            value["items"].append(entry)
        case "name":
            entry["name"] = "x" * 201
        case "number":
            entry["name"] = 5
        case "unknown name":
            entry["name"] = "crl-vcek-Rome"
        case "no zone":
            entry["fetched"] = "2026-01-01T00:00:00"
        case "year 1":
            entry["fetched"] = "0001-01-01T00:00:00+14:00"
        case "digest":
            entry["objects"][0]["sha256"] = "00" * 32
        case "base64":
            entry["objects"][0]["der"] = "!"
        case "objects":
            entry["objects"] = []
        case "object":
            entry["objects"] = ["x"]
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "change",
    [
        "schema", "member", "items", "twice", "name", "number", "unknown name", "no zone", "year 1", "digest", "base64",
        "objects", "object",
    ],
)  # fmt: skip
def test_a_bundle_with_one_thing_wrong_is_malformed(kds: FakeKds, tmp_path: Path, change: str) -> None:
    with pytest.raises(BundleMalformed):
        import_bundle(kds.source(tmp_path), changed(change, kds), PKI.anchors, NOW)


NAMES = st.text("abcdefghijklmnopqrstuvwxyzMGT-0123456789", min_size=1, max_size=40)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))
ITEMS = st.lists(
    st.builds(BundleItem, NAMES, TIMES, st.lists(st.binary(max_size=80), min_size=1, max_size=2).map(tuple)),
    unique_by=lambda item: item.name,
    max_size=6,
)


@given(ITEMS)
@settings(max_examples=60, deadline=None)
def test_what_is_built_is_what_is_parsed_in_any_order(entries: list[BundleItem]) -> None:
    data = build_bundle(entries)
    assert parse_bundle(data) == tuple(sorted(entries))
    assert build_bundle(reversed(entries)) == data


@given(st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_other_bytes_are_malformed_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BundleMalformed):
        parse_bundle(data)
    read_collateral_file(b'{\n "schema": "attest.collateral.bundle/' + data)

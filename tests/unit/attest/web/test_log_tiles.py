"""The log over HTTP, read by a client that knows nothing but SHA-256 and the specification."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attest.audit.record import Event
from attest.audit.tiles import Tile, tile_at, tiles_of
from attest.broker.log import LogSigner, checkpoint
from attest.broker.trail import append
from attest.keys.log_key import LogKey
from attest.store import records
from tests.fakes.service_world import AUDITOR, ServiceWorld

LOG = "/cvm/v0/log"
SIZE = 600


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ServiceWorld:
    """A log of 600 records under a checkpoint, and five more that no checkpoint covers yet."""
    folder = tmp_path_factory.mktemp("log")
    world = ServiceWorld(folder / "service")
    fill(world, SIZE)
    key = LogKey("kbs.example/audit", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
    checkpoint(world.database, LogSigner(key, folder / "log.seen"), world.now)
    fill(world, SIZE + 5)
    return world


def fill(world: ServiceWorld, size: int) -> None:
    with world.database.write() as tx:
        have = records.count(tx)
        for number in range(have, size):
            append(tx, Event(world.now, "note", str(number), "ok", AUDITOR))


def get(world: ServiceWorld, path: str, *, auditor: bool = False) -> Any:
    app = world.admin_app(AUDITOR) if auditor else world.guest_app()
    return app.test_client().get(f"{LOG}/{path}", base_url="https://kbs.test")


def index_path(number: int) -> str:
    text = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        text = f"x{number % 1000:03}/{text}"
    return text


def fetch_level(world: ServiceWorld, prefix: str, count: int, *, auditor: bool = False) -> list[bytes]:
    """All tiles of one level for a tree with so many hashes there."""
    found = []
    for number in range(-(-count // 256)):
        width = min(256, count - number * 256)
        partial = "" if width == 256 else f".p/{width}"
        answer = get(world, f"tile/{prefix}/{index_path(number)}{partial}", auditor=auditor)
        assert answer.status_code == 200, answer.data
        found.append(answer.data)
    return found


def root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word."""
    if len(leaves) == 1:
        return leaves[0]
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\1" + root(leaves[:left]) + root(leaves[left:])).digest()


def test_the_root_of_the_checkpoint_follows_from_the_tiles_and_the_tiles_from_the_records(world: ServiceWorld) -> None:
    origin, size, encoded, *_ = get(world, "checkpoint").data.decode().split("\n")
    assert (origin, int(size)) == ("kbs.example/audit", SIZE)
    tiles = fetch_level(world, "0", SIZE)
    leaves = [tile[at : at + 32] for tile in tiles for at in range(0, len(tile), 32)]
    assert root(leaves) == base64.b64decode(encoded)
    (upper,) = fetch_level(world, "1", SIZE // 256)
    assert [upper[at : at + 32] for at in range(0, len(upper), 32)] == [root(leaves[:256]), root(leaves[256:512])]
    entries = []
    for bundle in fetch_level(world, "entries", SIZE, auditor=True):
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            entries.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    assert [hashlib.sha256(b"\0" + entry).digest() for entry in entries] == leaves


@pytest.mark.parametrize(
    "path",
    [
        "0/002",  # not full yet
        "0/002.p/89",  # only records that no checkpoint covers would fill it
        "0/003",
        "1/000",
        "2/000.p/1",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/x000/000",
        "0/x001/1",
        "0/0000",
        "00/000",
        "64/000.p/1",
        "-1/000",
        "٣/000",
        "entries/000",  # on this listener it is no tile
        "0/../checkpoint",
        "0/000/",
    ],
)
def test_what_is_not_under_the_checkpoint_or_is_spelt_otherwise_is_not_there(world: ServiceWorld, path: str) -> None:
    assert get(world, f"tile/{path}").status_code == 404


def test_a_tile_of_an_older_checkpoint_is_still_there_and_the_beginning_of_the_newer_one(world: ServiceWorld) -> None:
    narrow, wide = (get(world, f"tile/0/000{part}").data for part in (".p/7", ""))
    assert (len(narrow), len(wide)) == (7 * 32, 256 * 32)
    assert wide.startswith(narrow)


def test_tiles_may_be_kept_for_ever_records_only_by_who_asked_and_the_checkpoint_not(world: ServiceWorld) -> None:
    kept = {
        path: get(world, path, auditor=auditor).headers
        for path, auditor in (("checkpoint", False), ("tile/0/000", False), ("tile/entries/000", True))
    }
    assert {path: headers["Cache-Control"] for path, headers in kept.items()} == {
        "checkpoint": "no-store",
        "tile/0/000": "public, max-age=31536000, immutable",
        "tile/entries/000": "private, max-age=31536000, immutable",
    }
    assert kept["checkpoint"]["Content-Type"] == "text/plain; charset=utf-8"
    assert get(world, "tile/0/999").headers["Cache-Control"] == "no-store"


def test_before_the_first_checkpoint_there_is_nothing(tmp_path: Path) -> None:
    fresh = ServiceWorld(tmp_path / "service")
    assert [get(fresh, path).status_code for path in ("checkpoint", "tile/0/000.p/1")] == [404, 404]


def test_a_tile_that_lost_a_hash_is_an_error_and_never_a_shorter_tile(tmp_path: Path) -> None:
    torn = ServiceWorld(tmp_path / "service")
    key = LogKey("kbs.example/audit", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
    checkpoint(torn.database, LogSigner(key, tmp_path / "log.seen"), torn.now)
    with torn.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM leaves WHERE number = 1")
    assert get(torn, "tile/0/000.p/3").status_code in (500, 503)
    assert get(torn, "tile/0/000.p/1").status_code == 200


def test_a_record_too_long_for_a_bundle_is_named(tmp_path: Path) -> None:
    world = ServiceWorld(tmp_path / "service")
    with world.database.write() as tx:
        append(tx, Event(world.now, "note", "x", "ok", AUDITOR, {"long": "x" * 70_000}))
        size = records.count(tx)
    key = LogKey("kbs.example/audit", Ed25519PrivateKey.from_private_bytes(b"\5" * 32))
    checkpoint(world.database, LogSigner(key, tmp_path / "log.seen"), world.now)
    answer = get(world, f"tile/entries/000.p/{size}", auditor=True)
    assert (answer.status_code, f"records {size}: too long" in answer.json["detail"]) == (404, True)
    assert get(world, f"tile/entries/000.p/{size - 1}", auditor=True).status_code == 200


def test_a_tiles_path_is_read_as_it_is_written() -> None:
    for size in (1, 255, 256, 257, 70_000, 66_000_000):
        for tile in list(tiles_of(size, size - 1)):
            assert tile_at(tile.level, tile.path.split("/", 2)[2]) == tile
    assert tile_at(0, "x001/x234/067") == Tile(0, 1_234_067, 256)

"""A disk's key is replaced by the real agent on a real LUKS2 container, and killed between any two steps."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attest.attester.disk import read_header
from attest.attester.errors import DiskFailed
from attest.broker import rotation
from attest.broker.lifecycle import resource_json
from attest.broker.operations import NewResource, put_resource
from policy.luks_header import check_luks_header, header_digest, valid_copies
from policy.luks_metadata import PAYLOAD_OFFSET, HeaderRefused
from policy.secret import SecretBytes
from tests.fakes import luks
from tests.fakes.luks_guest import InProcess, Killer, LuksMachine, boot, killed_boot, make_disk, opens
from tests.fakes.service_world import PATH, SECRET, ServiceWorld

pytestmark = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="cryptsetup is not installed")


class Place:
    """A service and a disk whose header it knows."""

    def __init__(self, folder: Path, *, escrow: bool = True) -> None:
        self.folder = folder
        self.world = ServiceWorld(folder / "service")
        self.disk = make_disk(folder / "disk", SECRET)
        self.header = digest_of(self.disk)
        if escrow:
            rotation.record_header(self.world.database, PATH, self.header, self.world.by)

    def boot(self, *, read_only: bool = False, transport: InProcess | None = None) -> tuple[bytes, str]:
        """One boot; the key that opened the disk, and what the guest said."""
        shutil.rmtree(self.folder / "memory", ignore_errors=True)
        machine = LuksMachine(self.disk, self.folder / "memory", read_only=read_only)
        recorder = boot(self.world, machine, transport)
        assert not any((self.folder / "memory").iterdir()), "the header's copy stays in memory"
        return machine.keys["root"], recorder.console.decode()

    def rotate(self) -> int:
        return rotation.start(self.world.database, self.world.keys, PATH, None, self.world.by)

    @property
    def state(self) -> dict[str, Any]:
        """What ``attest key show`` says of header and replacement."""
        found: dict[str, Any] = resource_json(self.world.database, PATH, self.world.now)["disk"]
        return found

    @property
    def steps(self) -> list[str]:
        return [entry["outcome"] for entry in self.world.records("key-rotation")]


def digest_of(image: Path) -> str:
    data = read_header(image)
    return header_digest(data, check_luks_header(data))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def settled(place: Place, key: bytes) -> None:
    """The new key alone opens the disk, the service knows its header, and no old key material is left."""
    assert place.state == {"headers": [digest_of(place.disk)], "rotation": None}
    assert opens(place.disk, key)
    assert not opens(place.disk, SECRET)
    data = read_header(place.disk)
    (slot,) = check_luks_header(data).slots
    assert not any(data[2 * luks.HEADER_BYTES : slot.start])
    assert not any(data[slot.start + slot.size :])


def test_a_boot_replaces_the_key_and_the_next_boot_uses_the_new_one(place: Place) -> None:
    place.rotate()
    old, said = place.boot()
    assert old == SECRET
    assert "key version 2 is in force, the old one opens nothing" in said
    assert place.steps == ["started", "staged", "confirmed", "staged", "finished"]
    new, _ = place.boot()
    assert new != SECRET
    settled(place, new)
    place.rotate()
    place.boot()
    newest, _ = place.boot()
    assert newest not in (SECRET, new)
    settled(place, newest)
    assert not opens(place.disk, new)


# Reports: has, will, only, and none (7). Writes: area, second and first copy; second and first copy without the old
# keyslot, its area. Killed in the middle of a write, half of it is on the disk.
WHERE = [
    *(("send", nth, "before") for nth in (4, 5, 6, 7)),
    *(("pwrite", nth, "middle") for nth in range(6)),
    *(("pwrite", nth, "before") for nth in (0, 2, 4)),
]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a replacement under way, to copy from."""
    folder = tmp_path_factory.mktemp("begun")
    Place(folder).rotate()
    yield folder


@pytest.fixture(scope="module")
def whole(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a guest that is not killed does, in order."""
    folder = tmp_path_factory.mktemp("whole") / "copy"
    copy(begun, folder)
    killer, world = Killer(), ServiceWorld(folder / "service", again=True)
    transport = InProcess(world)
    with killer.watching(transport):
        boot(world, LuksMachine(folder / "disk", folder / "memory"), transport)
    assert killer.done.count("send") == 7
    assert killer.done.count("pwrite") >= 6
    return killer.done


def copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", source, target], check=True)


@pytest.mark.parametrize(("name", "nth", "when"), WHERE)
def test_a_guest_killed_anywhere_boots_again_and_finishes(
    begun: Path, whole: list[str], tmp_path: Path, name: str, nth: int, when: str
) -> None:
    """Service and guest die together; then the disk opens with what the service gives, whatever was half done."""
    copy(begun, tmp_path / "p")
    place = Place.__new__(Place)
    place.folder, place.disk = tmp_path / "p", tmp_path / "p" / "disk"
    places = [number for number, done in enumerate(whole) if done == name]
    number = places[nth] if nth < len(places) else len(whole)
    assert killed_boot(place.folder, Killer(number, when)) is (nth < len(places))
    place.world = ServiceWorld(place.folder / "service", again=True)
    opened, _ = place.boot()
    key, _ = place.boot()
    assert opened in (SECRET, key)
    settled(place, key)
    assert place.steps.count("confirmed") == place.steps.count("finished") == 1


def test_a_disk_whose_header_nobody_knew_is_taken_over_and_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path, escrow=False)
    assert place.boot()[0] == SECRET
    assert place.state == {"headers": [], "rotation": None}
    place.rotate()
    place.boot()
    assert place.steps[:3] == ["started", "taken over", "staged"]
    settled(place, place.boot()[0])


def test_a_read_only_disk_opens_and_waits(place: Place) -> None:
    place.rotate()
    key, said = place.boot(read_only=True)
    assert key == SECRET
    assert "read-only" in said
    assert place.state["rotation"]["state"] == "waiting for the guest"


def test_a_service_that_will_not_hear_of_it_stops_no_boot(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.rotate()
    before = place.disk.read_bytes()
    transport = InProcess(place.world)
    place.world.guest_app()
    monkeypatch.setattr("attest.web.guest.parse_report", lambda body: 1 / 0)
    key, said = place.boot(transport=transport)
    assert key == SECRET
    assert "has to go on at the next boot" in said
    assert place.disk.read_bytes() == before


def test_given_up_before_the_guest_knew_nothing_is_left_to_do(place: Place) -> None:
    place.rotate()
    assert rotation.abort(place.world.database, PATH, place.world.by) is False
    assert place.state == {"headers": [place.header], "rotation": None}
    assert place.boot()[0] == SECRET
    assert place.rotate() == 3  # the number of a key that was given up is not given again


def test_given_up_after_the_guest_wrote_its_keyslot_is_removed_again(place: Place) -> None:
    place.rotate()
    written = staged_only(place)
    assert rotation.abort(place.world.database, PATH, place.world.by) is True
    assert len(place.state["headers"]) == 2
    assert len(valid_copies(read_header(place.disk))[0].slots) == 2
    key, _ = place.boot()
    assert key == SECRET
    assert place.state == {"headers": [digest_of(place.disk)], "rotation": None}
    assert place.steps[-2:] == ["aborted", "finished"]
    assert written not in place.state["headers"]
    assert opens(place.disk, SECRET)


def staged_only(place: Place) -> str:
    """A guest that dies before it can confirm: its disk has both keyslots."""
    shutil.rmtree(place.folder / "memory", ignore_errors=True)
    transport = InProcess(place.world)
    send = transport.send

    def dying(method: str, path: str, body: bytes | None, cookie: str | None, challenge: str | None = None) -> Any:
        if body is not None and b'"has"' in body:
            raise KeyboardInterrupt
        return send(method, path, body, cookie, challenge)

    transport.send = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        boot(place.world, LuksMachine(place.disk, place.folder / "memory"), transport)
    (staged,) = place.state["rotation"]["staged"]
    return str(staged)


def change_json(image: Path, old: bytes, new: bytes) -> None:
    """A host's change of the header, in both copies, with correct checksums."""
    data = bytearray(read_header(image))
    for at in (0, luks.HEADER_BYTES):
        copy = bytes(data[at : at + luks.HEADER_BYTES]).replace(old, new, 1).ljust(luks.HEADER_BYTES, b"\0")
        blank = copy[:448] + bytes(64) + copy[512 : luks.HEADER_BYTES]
        data[at : at + luks.HEADER_BYTES] = blank[:448] + hashlib.sha256(blank).digest() + blank[480:]
    with image.open("r+b") as disk:
        disk.write(data)


def alter(image: Path) -> None:
    """Another cipher is refused by the profile already; a field the profile leaves free is not."""
    change_json(image, b'"iterations":1000', b'"iterations":1001')


def other_keyslot(image: Path) -> None:
    """The area of the keyslot, which no checksum covers."""
    (slot,) = check_luks_header(read_header(image)).slots
    with image.open("r+b") as disk:
        disk.seek(slot.start + 4096)
        disk.write(b"\xa5")


def other_disk(image: Path) -> None:
    """A header of another disk, of the profile and opened by the same key."""
    other = make_disk(image.with_name("other"), SECRET)
    with image.open("r+b") as disk:
        disk.write(read_header(other))


@pytest.mark.parametrize("change", [alter, other_keyslot, other_disk])
def test_a_header_that_is_not_the_one_recorded_never_meets_the_key(
    place: Place, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(place.disk)
    check_luks_header(read_header(place.disk))  # of the profile it is
    monkeypatch.setattr("tests.fakes.luks_guest.run_cryptsetup", lambda *words, **more: pytest.fail("met the key"))
    with pytest.raises(HeaderRefused, match="not the header that the key service knows"):
        place.boot()


def test_an_altered_cipher_is_refused_before_a_key_is_asked_for(place: Place) -> None:
    change_json(place.disk, b'"encryption":"aes-xts-plain64"', b'"encryption":"cipher_null-ecb"')
    with pytest.raises(HeaderRefused, match="cipher_null"):
        place.boot()
    assert place.world.records("release") == []


def test_the_header_from_before_a_replacement_is_refused_after_it(place: Place) -> None:
    """It is the old key's: a host that kept a copy of the disk cannot bring it back."""
    before = read_header(place.disk)
    place.rotate()
    place.boot()
    with place.disk.open("r+b") as disk:
        disk.write(before)
    assert opens(place.disk, SECRET)
    with pytest.raises(HeaderRefused, match="not the header"):
        place.boot()


def test_one_torn_copy_opens_with_the_other_and_is_mended(place: Place) -> None:
    with place.disk.open("r+b") as disk:
        disk.write(bytes(4096))
    key, _ = place.boot()
    assert key == SECRET
    place.rotate()
    place.boot()
    settled(place, place.boot()[0])


def test_two_keyslots_without_a_recorded_header_are_refused(tmp_path: Path) -> None:
    place = Place(tmp_path, escrow=False)
    added = ["cryptsetup", "luksAddKey", "-q", "--pbkdf", "pbkdf2", "--hash", "sha256", "--pbkdf-force-iterations",
             "1000", "--key-file", "-", "--keyfile-size", "32", str(place.disk), "/dev/fd/0"]  # fmt: skip
    subprocess.run(added, input=SECRET + b"x" * 32, check=True, capture_output=True)
    with pytest.raises(HeaderRefused, match="got 2, want exactly one"):
        place.boot()


def test_a_key_that_opens_nothing_removes_nothing(place: Place) -> None:
    """A service that lost its mind cannot lock a disk for ever."""
    put_resource(
        place.world.database,
        place.world.keys,
        NewResource(PATH, SecretBytes(b"w" * 32), replace=True, luks_header=place.header),
        place.world.by,
    )
    before = place.disk.read_bytes()
    with pytest.raises(DiskFailed, match="does not open"):
        place.boot()
    assert place.disk.read_bytes() == before
    assert len(before) > PAYLOAD_OFFSET

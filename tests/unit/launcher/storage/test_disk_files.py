"""A VM's local disks before the start: there, of their kind, encrypted where that is said."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from launcher.core.luks import luks_problem
from launcher.core.qcow2 import Qcow2Malformed, first_bytes, parse_header
from launcher.core.storage import Backing, Replicas
from launcher.core.vm import Disk, Verity
from launcher.errors import PlanRefused
from launcher.io.disk_files import check_disk
from policy.verity import BLOCK, root_hash
from policy.vocab import ResourcePath
from tests.unit.launcher.storage.test_snapshots import img

LUKS = b"LUKS\xba\xbe\0\2" + bytes(4088)
KEY = ResourcePath.parse("a/b/c")


def qcow2(content: bytes, *, backing: str = "", cluster_flags: int = 0, incompatible: int = 0) -> bytes:
    """An image of four 64 KiB clusters: header, L1, L2, data."""
    size = 1 << 16
    name = backing.encode()
    header = struct.pack(">4sIQIIQIIQ", b"QFI\xfb", 3, 512 if name else 0, len(name), 16, 1 << 20, 0, 1, size)
    header = (header.ljust(72, b"\0") + struct.pack(">Q", incompatible)).ljust(512, b"\0") + name
    l1 = struct.pack(">Q", 2 * size | 1 << 63)
    l2 = struct.pack(">Q", 3 * size | 1 << 63 | cluster_flags)
    return b"".join(part.ljust(size, b"\0") for part in (header, l1, l2, content))


def refusal(disk: Disk) -> str:
    with pytest.raises(PlanRefused) as found:
        check_disk(disk)
    return str(found.value.message)


def test_a_disk_that_is_said_to_be_encrypted_has_a_luks2_header(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(LUKS)
    check_disk(Disk(str(image), "root", KEY))
    image.write_bytes(bytes(4096))
    assert "declared encrypted, but begins with 000000000000" in refusal(Disk(str(image), "root", KEY))
    check_disk(Disk(str(image), "root"))
    image.write_bytes(LUKS.replace(b"\0\2", b"\0\1", 1))
    assert "LUKS1" in refusal(Disk(str(image), "root", KEY))
    assert luks_problem(b"") == "begins with nothing, not with a LUKS header"


def test_a_replica_that_is_not_encrypted_is_seen_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(LUKS)
    (tmp_path / "b").write_bytes(bytes(512))
    disk = Disk(str(tmp_path / "a"), "root", KEY, replicas=Replicas((Backing(str(tmp_path / "b")),), 1))
    assert str(tmp_path / "b") in refusal(disk)


def test_the_guests_first_bytes_are_found_inside_a_qcow2_image(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2(LUKS))
    check_disk(Disk(str(image), "root", KEY, format="qcow2"))
    image.write_bytes(qcow2(b"plain"))
    assert "706c61696e00" in refusal(Disk(str(image), "root", KEY, format="qcow2"))


def test_an_image_that_names_another_file_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(qcow2(b"", backing="/etc/shadow"))
    assert "overlay of '/etc/shadow'" in refusal(Disk(str(image), "d", format="qcow2"))


@pytest.mark.qemu
def test_an_image_that_keeps_its_data_in_a_file_it_names_is_refused(tmp_path: Path) -> None:
    """Real QEMU shows its guest that file as the disk; the image's own bytes hold nothing of it."""
    secret, image = tmp_path / "secret", tmp_path / "a.qcow2"
    img(tmp_path, "create", "-q", "-f", "qcow2", "-o", "data_file=secret,data_file_raw=on", "a.qcow2", "64K")
    secret.write_bytes(b"the host's".ljust(1 << 16, b"\0"))
    img(tmp_path, "convert", "-f", "qcow2", "-O", "raw", "a.qcow2", "shown")
    assert (tmp_path / "shown").read_bytes() == secret.read_bytes()
    assert "keeps its data in a file it names" in refusal(Disk(str(image), "d", format="qcow2"))


def test_a_layer_may_lie_on_another_file_but_keeps_its_data_itself(tmp_path: Path) -> None:
    base, layer = tmp_path / "a.img", tmp_path / "a.img.one.qcow2"
    base.write_bytes(bytes(4096))
    layer.write_bytes(qcow2(b"", backing="a.img"))
    disk = Disk(str(base), "d", layers=(str(layer),))
    check_disk(disk)
    layer.write_bytes(qcow2(b"", backing="a.img", incompatible=4))
    assert f"layer {layer}: keeps its data in a file it names" in refusal(disk)
    layer.write_bytes(b"none")
    assert f"layer {layer}: qcow2: begins with 6e6f6e65" in refusal(disk)
    layer.unlink()
    assert f"layer {layer}: cannot be read" in refusal(disk)


def test_a_qcow2_image_said_to_be_raw_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(qcow2(b""))
    assert "holds a qcow2 image" in refusal(Disk(str(tmp_path / "a"), "d"))


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "key"])
def test_what_is_no_disk_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    if kind == "fifo":
        os.mkfifo(path)
    if kind == "key":
        path.write_bytes(bytes(512))
        assert "no such key file" in refusal(Disk(str(path), "d", format="luks", key_file=str(tmp_path / "k")))
    else:
        assert str(path) in refusal(Disk(str(path), "d"))


def test_what_is_below_dev_has_to_be_a_block_device() -> None:
    assert "want a block device" in refusal(Disk("/dev/null", "d"))


@pytest.mark.parametrize("flags", [1, 1 << 62])
def test_clusters_that_are_not_as_they_are_tell_nothing(flags: int) -> None:
    image = qcow2(LUKS, cluster_flags=flags)
    assert first_bytes(lambda offset, length: image[offset : offset + length], 512) is None


@pytest.mark.parametrize("cut", [b"", b"QFI\xfb" + bytes(200), qcow2(b"")[: 1 << 16]])
def test_a_broken_qcow2_image_is_malformed_and_nothing_worse(cut: bytes) -> None:
    with pytest.raises(Qcow2Malformed):
        first_bytes(lambda offset, length: cut[offset : offset + length], 512)


def test_the_header_says_what_the_image_needs() -> None:
    image = qcow2(b"", backing="b.img")
    header = parse_header(lambda offset, length: image[offset : offset + length])
    assert (header.backing, header.size, header.cluster_bits, header.encrypted) == ("b.img", 1 << 20, 16, False)


def rooted(folder: Path, **changes: object) -> Disk:
    """A disk of two blocks of data and one of hashes."""
    path = folder / "root.img"
    path.write_bytes(bytes(2 * BLOCK) + b"tree".ljust(BLOCK))
    verity = Verity(2, root_hash(b"tree".ljust(BLOCK)))._replace(**changes)
    return Disk(str(path), "root", readonly=True, verity=verity)


def test_an_image_that_is_not_the_root_in_the_vm_file_is_refused_before_the_guest_starts(tmp_path: Path) -> None:
    check_disk(rooted(tmp_path))
    with pytest.raises(PlanRefused, match=rf"root hash {rooted(tmp_path).verity.root_hash}, want 0{{64}}"):  # type: ignore[union-attr]
        check_disk(rooted(tmp_path, root_hash="0" * 64))


def test_an_image_without_room_for_its_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match="12288 bytes, want 16384 for 3 blocks and their hash tree"):
        check_disk(rooted(tmp_path, blocks=3))

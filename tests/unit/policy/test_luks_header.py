"""One broken knob per case: each header is of the profile but for the thing its name says."""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest.attester.disk import open_words, read_header
from policy.luks_header import check_luks_header, header_digest, in_both_copies, recognise, valid_copies
from policy.luks_metadata import HeaderRefused, Keyslot
from tests.fakes import luks


def test_a_header_of_the_profile_is_accepted() -> None:
    accepted = check_luks_header(luks.header())
    assert accepted.uuid == "01234567-89ab-cdef-0123-456789abcdef"
    assert (accepted.header_bytes, accepted.sequence, accepted.slots) == (16384, 3, (Keyslot(0, 32768, 258048, 1000),))


def _set(path: str, value: object) -> Callable[[luks.Json], None]:
    *parents, last = path.split("/")

    def change(document: Any) -> None:
        for name in parents:
            document = document[name]
        document[last] = value

    return change


def _drop(path: str) -> Callable[[luks.Json], None]:
    *parents, last = path.split("/")

    def change(document: Any) -> None:
        for name in parents:
            document = document[name]
        del document[last]

    return change


def _untied_keyslot(document: Any) -> None:
    document["keyslots"]["1"] = copy.deepcopy(document["keyslots"]["0"])
    document["keyslots"]["1"]["area"]["offset"] = str(32768 + 258048)


def _second_keyslot(document: Any) -> None:
    _untied_keyslot(document)
    document["digests"]["0"]["keyslots"] = ["1", "0"]


def _overlapping_keyslots(document: Any) -> None:
    _second_keyslot(document)
    document["keyslots"]["1"]["area"]["offset"] = str(32768 + 4096)


def _second_segment(document: Any) -> None:
    document["segments"]["1"] = document["segments"]["0"]


METADATA = [
    ("a null cipher in the keyslot area", _set("keyslots/0/area/encryption", "cipher_null-ecb"), "cipher_null-ecb"),
    ("a null cipher in the segment", _set("segments/0/encryption", "cipher_null-ecb"), "cipher_null-ecb"),
    ("another mode in the segment", _set("segments/0/encryption", "aes-cbc-essiv:sha256"), "aes-cbc"),
    ("a capital letter in the cipher", _set("segments/0/encryption", "AES-xts-plain64"), "AES-xts"),
    ("a 256-bit keyslot key", _set("keyslots/0/key_size", 32), "key_size 32"),
    ("a 256-bit area key", _set("keyslots/0/area/key_size", 32), "key_size 32"),
    ("a key size that is true", _set("keyslots/0/key_size", True), "key_size True"),
    ("a second keyslot", _second_keyslot, "got 2, want exactly one"),
    ("two keyslots in one place", _overlapping_keyslots, "overlap"),
    ("a second keyslot that nothing ties to the data", _untied_keyslot, "keyslots ['0']"),
    ("no keyslot", _drop("keyslots/0"), "got 0"),
    ("a keyslot the digest does not name", lambda d: d["keyslots"].update({"1": d["keyslots"].pop("0")}), "want ['1']"),
    ("a third keyslot's number", lambda d: d["keyslots"].update({"2": d["keyslots"].pop("0")}), "got 1 (2)"),
    ("a reencryption keyslot", _set("keyslots/0/type", "reencrypt"), "reencrypt"),
    ("a keyslot with a priority", _set("keyslots/0/priority", 2), "priority"),
    ("an unbound keyslot area type", _set("keyslots/0/area/type", "none"), "'none'"),
    ("a journal area", _set("keyslots/0/area/type", "journal"), "journal"),
    ("few anti-forensic stripes", _set("keyslots/0/af/stripes", 1), "stripes 1"),
    ("another anti-forensic hash", _set("keyslots/0/af/hash", "sha1"), "sha1"),
    ("argon2id, which needs memory the host may name", _set("keyslots/0/kdf/type", "argon2id"), "argon2id"),
    ("another kdf hash", _set("keyslots/0/kdf/hash", "whirlpool"), "whirlpool"),
    ("few iterations", _set("keyslots/0/kdf/iterations", 999), "iterations 999"),
    ("iterations that take for ever", _set("keyslots/0/kdf/iterations", 4_000_000_000), "iterations 4000000000"),
    ("iterations as text", _set("keyslots/0/kdf/iterations", "1000"), "iterations '1000'"),
    ("a short kdf salt", _set("keyslots/0/kdf/salt", "AAAA"), "AAAA"),
    ("an area inside the first header", _set("keyslots/0/area/offset", "4096"), "4096..262144"),
    ("an area inside the second header", _set("keyslots/0/area/offset", "28672"), "28672.."),
    ("an area that reaches into the payload", _set("keyslots/0/area/offset", str(16 * luks.MIB - 4096)), "inside"),
    ("an area in the payload", _set("keyslots/0/area/offset", str(32 * luks.MIB)), "inside"),
    ("an area too small for its stripes", _set("keyslots/0/area/size", "4096"), "256000 bytes"),
    ("an offset with a leading zero", _set("keyslots/0/area/offset", "032768"), "032768"),
    ("a negative offset", _set("keyslots/0/area/offset", "-4096"), "-4096"),
    ("an offset as a number", _set("keyslots/0/area/offset", 32768), "32768"),
    ("a token", _set("tokens/0", {"type": "systemd-tpm2", "keyslots": ["0"]}), "tokens"),
    ("a second segment", _second_segment, "got 2 (0, 1)"),
    ("no segment", _drop("segments/0"), "got 0"),
    ("a linear segment", _set("segments/0/type", "linear"), "linear"),
    ("a hardware-encrypted segment", _set("segments/0/type", "hw-opal"), "hw-opal"),
    ("a segment offset of zero", _set("segments/0/offset", "0"), "'0'"),
    ("a segment offset one sector on", _set("segments/0/offset", str(16 * luks.MIB + 4096)), "16781312"),
    ("a segment of fixed size", _set("segments/0/size", "4096"), "'4096'"),
    ("an IV tweak", _set("segments/0/iv_tweak", "8"), "'8'"),
    ("sectors of 512 bytes", _set("segments/0/sector_size", 512), "512"),
    ("integrity nobody asked for", _set("segments/0/integrity", {"type": "none"}), "integrity"),
    ("a segment flag", _set("segments/0/flags", ["in-reencryption"]), "flags"),
    ("a digest of another type", _set("digests/0/type", "sha256"), "sha256"),
    ("a digest bound to no keyslot", _set("digests/0/keyslots", []), "keyslots []"),
    ("a digest bound to something else", _set("digests/0/keyslots", [0]), "keyslots [0]"),
    ("a digest bound to another segment", _set("digests/0/segments", ["1"]), "['1']"),
    ("a second digest", lambda d: d["digests"].update({"1": d["digests"]["0"]}), "got 2"),
    ("a digest cut short", _set("digests/0/digest", "AAAA"), "AAAA"),
    ("few digest iterations", _set("digests/0/iterations", 1), "iterations 1"),
    ("config flags", _set("config/flags", ["allow-discards"]), "flags"),
    ("an offline reencryption requirement", _set("config/requirements", {"mandatory": ["offline-reencrypt"]}), "requirem"),
    ("an online reencryption requirement", _set("config/requirements", {"mandatory": ["online-reencrypt-v2"]}), "requirem"),
    ("a wrong json_size", _set("config/json_size", "4096"), "'4096'"),
    ("a keyslots area that reaches into the payload", _set("config/keyslots_size", str(16 * luks.MIB)), "reaches beyond"),
    ("no config", _drop("config"), "lacks config"),
    ("a member nobody knows", _set("extra", {}), "has extra besides"),
    ("keyslots that are a list", _set("keyslots", []), "not an object"),
    ("a keyslot that is text", _set("keyslots/0", "luks2"), "not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in METADATA], ids=[case[0] for case in METADATA])
def test_metadata_off_the_profile_is_refused_and_named(change: Callable[[luks.Json], object], said: str) -> None:
    with pytest.raises(HeaderRefused, match=re.escape(said)):
        check_luks_header(luks.changed(change))


BINARY = [
    ("LUKS1", {"version": 1}, "version 1"),
    ("a label that udev would match", {"label": b"root"}, "label"),
    ("a subsystem", {"subsystem": b"x"}, "subsystem"),
    ("another checksum algorithm", {"algorithm": b"crc32"}, "csum_alg"),
    ("a wrong checksum", {"checksum": bytes(32)}, "csum"),
    ("a size that is no power of two", {"size": 12288}, "hdr_size 12288"),
    ("a huge size", {"size": 1 << 40}, "hdr_size"),
    ("a wrong position", {"at": 4096}, "hdr_offset 4096"),
    ("no uuid", {"uuid": b""}, "uuid"),
    ("bytes in the padding", {"padding": b"x"}, "padding"),
]


@pytest.mark.parametrize(("fields", "said"), [case[1:] for case in BINARY], ids=[case[0] for case in BINARY])
def test_a_binary_header_off_the_profile_is_refused_and_named(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(HeaderRefused, match=said):
        check_luks_header(luks.header(**fields))


def test_two_valid_copies_that_differ_are_refused() -> None:
    other = luks.changed(_set("keyslots/0/kdf/iterations", 2000))[4096:16384].rstrip(b"\0")
    with pytest.raises(HeaderRefused, match="differ in text"):
        check_luks_header(luks.header(second=other))


def whole(**fields: Any) -> bytes:
    """A header with the areas behind it."""
    return luks.header(**fields).ljust(16 * luks.MIB, b"\x5a")


def digest(data: bytes) -> str:
    return header_digest(data, valid_copies(data)[0])


def test_the_digest_is_over_what_a_key_meets_and_nothing_else() -> None:
    """A foreign computation of it, from the words of the module."""
    text = luks.header()[4096:16384].rstrip(b"\0")
    parts = [b"cvm.luks-header/1", b"01234567-89ab-cdef-0123-456789abcdef", text, b"0", b"\x5a" * 258048]
    want = hashlib.sha256(b"".join(struct.pack(">I", len(part)) + part for part in parts)).hexdigest()
    assert digest(whole()) == want
    assert digest(whole(sequence=9)) == want
    assert digest(whole()[: 32768 + 258048] + b"other") == want


def test_the_digest_changes_with_uuid_text_and_area() -> None:
    known = digest(whole())
    area = bytearray(whole())
    area[32768 + 258047] ^= 1
    text = luks.header()[4096:16384].rstrip(b"\0")
    for other in (whole(uuid=b"11234567-89ab-cdef-0123-456789abcdef"), whole(text=text + b" "), bytes(area)):
        assert digest(other) != known
    with pytest.raises(HeaderRefused, match="cut off"):
        digest(whole()[: 32768 + 258047])


def test_of_two_copies_that_differ_the_one_that_is_known_counts_and_both_become_it() -> None:
    other = luks.changed(_set("keyslots/0/kdf/iterations", 2000))[4096:16384].rstrip(b"\0")
    data = luks.header(second=other).ljust(16 * luks.MIB, b"\0")
    first, second = valid_copies(data)
    for header in (first, second):
        known = header_digest(data, header)
        assert recognise(data, frozenset([known])) == header
        mended = in_both_copies(data, header)
        assert check_luks_header(mended).slots == header.slots
        assert digest(mended) == known
    with pytest.raises(HeaderRefused, match="not the header that the key service knows"):
        recognise(data, frozenset(["00" * 32]))


@pytest.mark.parametrize(("start", "end"), [(0, 16384), (16384, 32768), (4000, 4200), (20000, 20001)])
def test_one_torn_copy_is_made_again_from_the_other(start: int, end: int) -> None:
    torn = bytearray(whole())
    torn[start:end] = b"\xff" * (end - start)
    header = recognise(bytes(torn), frozenset([digest(whole())]))
    assert digest(in_both_copies(bytes(torn), header)) == digest(whole())
    check_luks_header(in_both_copies(bytes(torn), header))


def test_whole_copies_are_left_as_they_are() -> None:
    assert in_both_copies(whole(), valid_copies(whole())[0]) == whole()


def test_a_missing_second_copy_is_refused() -> None:
    with pytest.raises(HeaderRefused, match="second header: magic"):
        check_luks_header(luks.header()[:16384] + bytes(16384))


def test_a_member_given_twice_is_refused() -> None:
    text = luks.header()[4096:16384].rstrip(b"\0").replace(b'"tokens":{}', b'"tokens":{},"tokens":{}')
    with pytest.raises(HeaderRefused, match="twice"):
        check_luks_header(luks.header(text))


def test_escapes_that_two_readers_might_read_differently_are_refused() -> None:
    text = luks.header()[4096:16384].rstrip(b"\0").replace(b'"crypt"', b'"\\u0063rypt"')
    with pytest.raises(HeaderRefused, match="escapes"):
        check_luks_header(luks.header(text))


def test_bytes_after_the_json_text_are_refused() -> None:
    text = luks.header()[4096:16384].rstrip(b"\0") + b"\0hidden"
    with pytest.raises(HeaderRefused, match="bytes follow"):
        check_luks_header(luks.header(text))


def test_a_blank_disk_is_refused_and_never_formatted() -> None:
    with pytest.raises(HeaderRefused, match="magic 000000000000"):
        check_luks_header(bytes(65536))


@given(st.integers(0, 32767), st.integers(1, 255))
def test_no_changed_byte_survives_the_checksum(where: int, flip: int) -> None:
    data = bytearray(luks.header())
    data[where] ^= flip
    with pytest.raises(HeaderRefused):
        check_luks_header(bytes(data))


@given(st.binary(max_size=8192))
def test_random_bytes_raise_our_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(HeaderRefused):
        check_luks_header(data)


@given(st.integers(0, 32767))
def test_a_header_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(HeaderRefused):
        check_luks_header(luks.header()[:length])


needs_cryptsetup = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="cryptsetup is not installed")
KEY = bytes(range(32))
PROFILE = (
    "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--hash", "sha256", "--pbkdf", "pbkdf2",
    "--pbkdf-force-iterations", "1000", "--sector-size", "4096", "--offset", "32768",
)  # fmt: skip


def _format(folder: Path, *options: str) -> Path:
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(20 * luks.MIB)
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--key-file", "-", *options, str(image)]
    subprocess.run(command, input=KEY, check=True, capture_output=True)
    return image


@needs_cryptsetup
def test_what_cryptsetup_formats_with_the_profile_is_accepted(tmp_path: Path) -> None:
    check_luks_header(read_header(_format(tmp_path, *PROFILE)))


@needs_cryptsetup
@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--sector-size", "512", "sector_size 512"),
        ("--key-size", "256", "key_size 32"),
        ("--label", "root", "label"),
        ("--cipher", "aes-xts-plain", "'aes-xts-plain'"),
        ("--offset", "65536", "keyslots_size 33521664"),
    ],
)
def test_what_cryptsetup_formats_otherwise_is_refused(tmp_path: Path, option: str, value: str, said: str) -> None:
    with pytest.raises(HeaderRefused, match=said):
        check_luks_header(read_header(_format(tmp_path, *PROFILE, option, value)))


def test_a_refused_header_is_named_by_its_disk_and_no_copy_is_left(tmp_path: Path) -> None:
    from attest.attester.disk import checked_copy

    (tmp_path / "disk").write_bytes(bytes(16 * luks.MIB))
    with pytest.raises(HeaderRefused, match="disk data: header refused: first header: magic"):
        checked_copy(tmp_path / "disk", "data", tmp_path / "headers")
    assert not (tmp_path / "headers").exists()


@needs_cryptsetup
@pytest.mark.parametrize(("key", "opens"), [(KEY, True), (KEY[:-1] + b"x", False)])
def test_cryptsetup_opens_the_profile_with_the_detached_copy_and_only_its_key(
    tmp_path: Path, key: bytes, opens: bool
) -> None:
    """The very command of the agent, as a dry run: no device mapper is needed for that."""
    from attest.attester.disk import BlockDevice, checked_copy

    image = _format(tmp_path, *PROFILE)
    _, detached = checked_copy(image, "root", tmp_path / "headers")
    # The disk's own header is destroyed: only the copy is used.
    with image.open("r+b") as disk:
        disk.write(bytes(1 << 20))
    words = open_words(BlockDevice(image, False), detached, "root", len(key))
    dry = [part for part in words if part != "root"] + ["--test-passphrase", "--disable-locks"]
    done = subprocess.run(["cryptsetup", *dry], input=key, capture_output=True, check=False)
    assert (done.returncode == 0) is opens, done.stderr

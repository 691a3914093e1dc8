"""Readers and value types."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import MalformedInput
from policy.secret import SecretBytes
from policy.snp import GuestPolicy, KeyInfo, TcbVersion
from policy.strictjson import strict_json
from policy.vocab import LaunchDigest, ResourcePath, SnpProduct
from policy.wire import ByteReader


def test_a_reader_names_the_field_the_place_and_the_lengths() -> None:
    reader = ByteReader(b"\x01\x02\x03", "report")
    assert reader.u16("version") == 0x0201
    with pytest.raises(MalformedInput, match=r"report: policy at 0x2: got 1 bytes, want 8"):
        reader.u64("policy")


def test_reserved_bytes_that_are_not_zero_are_shown() -> None:
    reader = ByteReader(b"\x00\x00\x01", "report", base=0x4C)
    with pytest.raises(MalformedInput, match=r"reserved at 0x4C\.\.0x4F must be zero, got 000001"):
        reader.zero(3, "reserved")


def test_leftover_bytes_are_refused() -> None:
    reader = ByteReader(b"\x00\x01", "table")
    reader.u8("first")
    with pytest.raises(MalformedInput, match="1 bytes follow the end at 0x1"):
        reader.end()


@given(st.binary(max_size=64), st.lists(st.integers(-2, 40), max_size=20))
def test_a_reader_never_reads_out_of_bounds(data: bytes, counts: list[int]) -> None:
    reader = ByteReader(data, "x")
    seen = b""
    for count in counts:
        try:
            seen += reader.take(count, "part")
        except MalformedInput:
            continue
    assert data.startswith(seen)
    assert reader.remaining == len(data) - len(seen)


@pytest.mark.parametrize("text", [
    '{"a":1,"a":2}', '{"b":{"a":1,"a":1}}', "NaN", "[Infinity]", "-Infinity", "1e999", "[-1e400]", "[" * 33 + "]" * 33, "1" * 30, "{", "",
    '"\\ud800"', '{"a":"\\udc00x"}', "\x00", "{}{}",
])  # fmt: skip
def test_ambiguous_or_broken_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        strict_json(text, "body")


def test_json_over_the_limit_or_not_utf8_is_refused() -> None:
    with pytest.raises(MalformedInput, match="at most 10"):
        strict_json(b'"0123456789"', "body", max_bytes=10)
    with pytest.raises(MalformedInput, match="byte 1 is not UTF-8"):
        strict_json(b'"\xff"', "body")


@pytest.mark.parametrize(
    "place", ["{}", " {}", "[{}]", "[ {}]", "[1,{}]", '{{"a":{}}}', '{{"a":\t{}}}', "[\n{}]", "[\r{}]"]
)
@pytest.mark.parametrize("number", ["18446744073709551616", "-18446744073709551616", "9" * 4000])
def test_an_integer_beyond_64_bits_is_refused_wherever_it_stands(place: str, number: str) -> None:
    with pytest.raises(MalformedInput, match="want at most 64 bits"):
        strict_json(place.format(number), "body")
    assert strict_json(place.format("18446744073709551615"), "body") is not None


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4), max_leaves=10))  # fmt: skip
def test_what_a_strict_writer_wrote_is_read_back(value: object) -> None:
    assert strict_json(json.dumps(value), "body") == value


@given(st.binary(max_size=200))
def test_random_bytes_parse_or_raise_our_error(data: bytes) -> None:
    try:
        strict_json(data, "body")
    except MalformedInput:
        pass


def test_a_secret_does_not_show_itself() -> None:
    secret = SecretBytes(b"hunter2hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {secret!s:>30} {[secret]}"
    assert repr(secret) == "<secret 14 bytes>"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        hash(secret)


def test_secrets_compare_by_value_and_can_be_wiped() -> None:
    secret = SecretBytes(b"abc")
    assert secret == SecretBytes(b"abc")
    assert secret != SecretBytes(b"abd")
    assert secret != b"abc"
    secret.wipe()
    assert secret.reveal() == b""


def test_a_launch_digest_has_48_bytes_and_reads_hex() -> None:
    assert LaunchDigest.from_hex("AB" * 48) == b"\xab" * 48
    for bad in (b"", bytes(47), bytes(49)):
        with pytest.raises(MalformedInput, match="want 48"):
            LaunchDigest(bad)
    with pytest.raises(MalformedInput, match="not hexadecimal"):
        LaunchDigest.from_hex("0x" + "00" * 48)


@pytest.mark.parametrize(
    "text", ["a/b", "a/b/c/d", "a//c", "../b/c", "a/.b/c", "a/b/c ", "a/b/ü", "", "a/b/" + "c" * 65]
)
def test_a_resource_path_that_could_climb_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput):
        ResourcePath.parse(text)


def test_a_resource_path_reads_both_spellings() -> None:
    assert ResourcePath.parse("kbs:///default/web-1/root").parts == ("default", "web-1", "root")


@given(st.binary(min_size=8, max_size=8), st.sampled_from(SnpProduct))
def test_a_tcb_version_is_its_bytes_or_is_refused(raw: bytes, product: SnpProduct) -> None:
    try:
        tcb = TcbVersion.from_bytes(raw, product)
    except MalformedInput:
        assert any(raw[4:6]) or any(raw[2:4]) or raw[6]
        return
    assert tcb.to_bytes() == raw
    assert (tcb.fmc is not None) == (product is SnpProduct.TURIN)


def test_tcb_versions_compare_part_by_part() -> None:
    assert TcbVersion(10, 0, 22, 200).parts_below(TcbVersion(9, 0, 23, 72)) == ("snp",)
    assert TcbVersion(9, 0, 23, 72).parts_below(TcbVersion(9, 0, 23, 72)) == ()
    assert TcbVersion(9, 9, 9, 9).parts_below(TcbVersion(1, 1, 1, 1, fmc=1)) == ("fmc",)


@pytest.mark.parametrize("value", [2, 3, 4, 5, 6])
def test_reserved_signing_keys_are_refused(value: int) -> None:
    with pytest.raises(MalformedInput, match="reserved"):
        _ = KeyInfo(value << 2).signing_key


def test_guest_policy_bits_have_the_meaning_of_the_specification() -> None:
    names = {16: "smt", 18: "migrate_ma", 19: "debug", 20: "single_socket", 21: "cxl_allow", 22: "mem_aes_256_xts",
             23: "rapl_dis", 24: "ciphertext_hiding", 25: "page_swap_disable"}  # fmt: skip
    for bit, name in names.items():
        policy = GuestPolicy(1 << bit)
        assert [other for other in names.values() if getattr(policy, other)] == [name]
    assert (GuestPolicy(0x3011F).abi_major, GuestPolicy(0x3011F).abi_minor) == (1, 0x1F)

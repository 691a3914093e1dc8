"""Whatever stands in signatures and signature lists, reading ends in what was written or in our own error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.authority import parse_database
from ovmf.der import elements, first
from ovmf.errors import PeMalformed, VariablesMalformed
from tests.fakes.signed_images import tlv

tags = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F)
parts = st.lists(st.tuples(tags, st.binary(max_size=300)), max_size=8)
guids = st.binary(min_size=16, max_size=16)


@given(parts)
def test_elements_are_read_as_they_were_written(written: list[tuple[int, bytes]]) -> None:
    found = elements(b"".join(tlv(tag, value) for tag, value in written))
    assert [(element.tag, element.value) for element in found] == written


@given(parts.filter(bool), st.integers(1, 400))
def test_elements_that_are_cut_off_are_refused(written: list[tuple[int, bytes]], cut: int) -> None:
    last = tlv(*written[-1])
    data = b"".join(tlv(tag, value) for tag, value in written[:-1]) + last[: -min(cut, len(last) - 1)]
    with pytest.raises(PeMalformed):
        elements(data)


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_only_padding_may_follow_the_first_element(value: bytes, behind: bytes) -> None:
    data = tlv(0x30, value)
    if len(behind) < 8 and not any(behind):
        assert first(data + behind, "x").value == value
    else:
        with pytest.raises(PeMalformed):
            first(data + behind, "x")


@given(st.lists(st.tuples(guids, st.binary(max_size=40), st.lists(st.tuples(guids, guids), max_size=4)), max_size=5))
def test_signature_lists_are_read_as_they_were_written(
    lists: list[tuple[bytes, bytes, list[tuple[bytes, bytes]]]],
) -> None:
    data = b""
    for kind, header, entries in lists:
        sizes = (28 + len(header) + 32 * len(entries), len(header), 32)
        data += kind + b"".join(size.to_bytes(4, "little") for size in sizes) + header
        data += b"".join(owner + body for owner, body in entries)
    want = [(kind, owner, body) for kind, _, entries in lists for owner, body in entries]
    assert [tuple(entry) for entry in parse_database(data, "db")] == want


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_any_bytes_are_a_database_or_refused(data: bytes) -> None:
    try:
        found = parse_database(data, "db")
    except VariablesMalformed:
        return
    assert sum(16 + len(entry.data) for entry in found) <= len(data)

"""Audit records are canonical, and a secret cannot get into one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from attest.audit.canonical import canonical, plain, rfc3339
from attest.audit.chain import Head, follow, parse_record
from attest.audit.errors import AuditBroken
from attest.audit.record import Actor, Event
from policy.secret import SecretBytes
from policy.strictjson import strict_json

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES))
def test_reading_a_record_and_writing_it_again_gives_the_same_bytes(body: dict[str, object]) -> None:
    record = Event(NOW, "kind", "subject", "outcome", Actor("local", "x"), body).record(1, bytes(32))
    assert canonical(strict_json(record, "record")) == record
    assert parse_record(record, "record")["seq"] == 1


@given(VALUES | st.dictionaries(st.text(st.characters(max_codepoint=127)), st.text(st.characters(max_codepoint=127))))
def test_the_canonical_form_is_that_of_rfc_8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(plain(value))


def test_a_secret_has_no_place_in_a_record() -> None:
    with pytest.raises(TypeError, match="plain data"):
        canonical({"a": [SecretBytes(b"x")]})


@pytest.mark.parametrize("value", [1.5, object(), {1, 2}])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        plain(value)


def test_a_time_is_written_in_utc_to_the_microsecond() -> None:
    assert rfc3339(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-01-02T03:04:05.000006Z"
    with pytest.raises(TypeError):
        rfc3339(datetime(2026, 1, 1))


def chain(length: int) -> list[tuple[int, bytes, bytes]]:
    import hashlib

    previous, found = bytes(32), []
    for seq in range(1, length + 1):
        record = Event(NOW, "k", f"s{seq}", "o", Actor("local")).record(seq, previous)
        previous = hashlib.sha256(record).digest()
        found.append((seq, record, previous))
    return found


def check_chain(records: list[tuple[int, bytes, bytes]]) -> Head:
    head = Head()
    for seq, record, stated in records:
        head = follow(head, seq, record, stated)
    return head


@given(st.integers(0, 8))
def test_a_chain_of_any_length_is_whole(length: int) -> None:
    records = chain(length)
    assert check_chain(records) == Head(length, records[-1][2] if records else bytes(32))


@given(st.integers(2, 8), st.data())
def test_no_record_but_the_last_can_be_left_out_and_none_exchanged(length: int, data: st.DataObject) -> None:
    records = chain(length)
    gone = data.draw(st.integers(0, length - 2))
    with pytest.raises(AuditBroken):
        check_chain(records[:gone] + records[gone + 1 :])
    records[gone], records[gone + 1] = records[gone + 1], records[gone]
    with pytest.raises(AuditBroken):
        check_chain(records)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(AuditBroken):
        parse_record(data, "record")

"""The reference-value file."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.errors import MalformedInput
from policy.reference import (
    LaunchRecipe,
    MeasuredInput,
    ReferenceValue,
    Section,
    reference_from_bytes,
    reference_to_bytes,
)  # fmt: skip
from policy.vocab import LaunchDigest, Platform

RECIPE = LaunchRecipe(
    firmware_sha256=b"\x01" * 32, firmware_ld=b"\x02" * 48, sections=(Section(0x800000, 0x9000, 1),),
    hash_table_gpa=0x810C00, ap_eip=0x80B004, vcpus=2, vcpu_sig=0x800F12, guest_features=1, vmm="qemu",
    kernel_sha256=b"\x03" * 32, initrd_sha256=b"\x04" * 32, cmdline_sha256=b"\x05" * 32,
    inputs=(MeasuredInput("kernel", "vmlinuz", "03" * 32),),
)  # fmt: skip
VALUE = ReferenceValue(
    "web-1", Platform.SEV_SNP, LaunchDigest(b"\x07" * 48), datetime(2026, 1, 1, tzinfo=UTC), None, RECIPE
)


def test_a_reference_value_survives_being_written_and_read() -> None:
    assert reference_from_bytes(reference_to_bytes(VALUE)) == VALUE
    bare = VALUE._replace(recipe=None, expires=datetime(2027, 1, 1, tzinfo=UTC))
    assert reference_from_bytes(reference_to_bytes(bare)) == bare


@pytest.mark.parametrize(("member", "value"), [
    ("schema", "cvm.reference/2"), ("formula", 2), ("name", "../x"), ("platform", "sgx"), ("launch_digest", "00"),
    ("launch_digest", "AB" * 48), ("created", "yesterday"), ("created", "2026-01-01T00:00:00"), ("recipe", []),
    ("inputs", {}), ("extra", 1), ("expires", 5),
])  # fmt: skip
def test_a_wrong_member_is_refused(member: str, value: object) -> None:
    document = json.loads(reference_to_bytes(VALUE))
    document[member] = value
    with pytest.raises(MalformedInput):
        reference_from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("member", list(json.loads(reference_to_bytes(VALUE))["recipe"]))
def test_every_member_of_a_recipe_is_checked(member: str) -> None:
    document = json.loads(reference_to_bytes(VALUE))
    document["recipe"][member] = {"not": "this"}
    with pytest.raises(MalformedInput):
        reference_from_bytes(json.dumps(document).encode())


@given(st.binary(max_size=300))
def test_random_bytes_raise_our_error(data: bytes) -> None:
    with pytest.raises(MalformedInput):
        reference_from_bytes(data)

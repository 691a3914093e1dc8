"""The report parser: every version, every reserved byte, every size."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest.evidence.errors import EvidenceMalformed, EvidenceUnsupported
from attest.evidence.product import likely_product, product_of_cpuid, product_of_report, tcb_for_display
from attest.evidence.snp_report import REPORT_SIZE, SnpReport
from policy.vocab import SnpProduct
from tests.fakes.amd_pki import OFFSETS, FakeAmdPki

V5 = FakeAmdPki(report={"version": 5, "launch_mit_vector": 3, "current_mit_vector": 7})
V2 = FakeAmdPki(report={"version": 2, "cpuid_fam_id": 0, "cpuid_mod_id": 0, "cpuid_step": 0})

ALWAYS_RESERVED = [
    (0x04C, 0x050), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, 0x2A0), (0x2D0, 0x2E8), (0x318, 0x330),
    (0x330, 0x4A0),
]  # fmt: skip


@pytest.mark.parametrize("span", ALWAYS_RESERVED, ids=lambda span: f"{span[0]:x}")
def test_a_reserved_byte_that_is_not_zero_is_refused(span: tuple[int, int]) -> None:
    for offset in range(*span):
        changed = bytearray(V5.raw)
        changed[offset] = 1
        with pytest.raises(EvidenceMalformed, match="must be zero"):
            SnpReport.parse(bytes(changed))


@pytest.mark.parametrize("version", [1, 2])
def test_cpuid_bytes_are_reserved_before_version_3(version: int) -> None:
    changed = bytearray(V2.raw)
    changed[0] = version
    assert SnpReport.parse(bytes(changed)).cpuid_fam_id is None
    changed[0x188] = 0x19
    with pytest.raises(EvidenceMalformed, match="0x188"):
        SnpReport.parse(bytes(changed))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_mitigation_vectors_are_reserved_before_version_5(version: int) -> None:
    world = V2 if version < 3 else FakeAmdPki()
    changed = bytearray(world.raw)
    changed[0] = version
    assert SnpReport.parse(bytes(changed)).current_mit_vector is None
    for offset in (0x1F8, 0x207):
        broken = bytearray(changed)
        broken[offset] = 1
        with pytest.raises(EvidenceMalformed, match="0x1F8"):
            SnpReport.parse(bytes(broken))


@pytest.mark.parametrize("version", [0, 6, 7, 0x100, 0xFFFFFFFF])
def test_an_unknown_version_is_unsupported(version: int) -> None:
    changed = version.to_bytes(4, "little") + V5.raw[4:]
    with pytest.raises(EvidenceUnsupported, match=f"is {version}, want 1 to 5"):
        SnpReport.parse(changed)


@pytest.mark.parametrize("size", [0, 1, 672, 1183, 1185, 4000])
def test_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(EvidenceMalformed, match=f"got {size} bytes, want 1184"):
        SnpReport.parse((V5.raw + bytes(4000))[:size])


@pytest.mark.parametrize("value", [2 << 2, 6 << 2, 1 << 5, 1 << 31])
def test_reserved_key_information_is_refused(value: int) -> None:
    with pytest.raises(EvidenceMalformed, match="0x48"):
        SnpReport.parse(FakeAmdPki(report={"key_info": value}).raw)


def test_every_field_is_read_from_its_place() -> None:
    for name, (offset, size) in OFFSETS.items():
        if name in ("version", "signature_algo", "key_info"):
            continue
        value = bytes(range(1, size + 1))
        changed = bytearray(V5.raw)
        changed[offset : offset + size] = value
        got = getattr(SnpReport.parse(bytes(changed)), name)
        assert got == (value if isinstance(got, bytes) else int.from_bytes(value, "little")), name


def test_the_value_keeps_its_bytes_and_is_identified_by_what_is_signed() -> None:
    report = SnpReport.parse(V5.raw)
    assert report.raw == V5.raw
    assert report.signed == V5.raw[:0x2A0]
    resigned = SnpReport.parse(FakeAmdPki(report=V5.report).raw)
    assert resigned.raw != report.raw
    assert resigned.signed_sha256 == report.signed_sha256


@pytest.mark.parametrize(
    ("family", "model", "product"),
    [
        (0x19, 0x00, SnpProduct.MILAN), (0x19, 0x0F, SnpProduct.MILAN), (0x19, 0x10, SnpProduct.GENOA),
        (0x19, 0x1F, SnpProduct.GENOA), (0x19, 0xA0, SnpProduct.GENOA), (0x19, 0xAF, SnpProduct.GENOA),
        (0x1A, 0x00, SnpProduct.TURIN), (0x1A, 0x11, SnpProduct.TURIN),
    ],
)  # fmt: skip
def test_cpuid_ranges_are_inclusive(family: int, model: int, product: SnpProduct) -> None:
    assert product_of_cpuid(family, model) is product


@pytest.mark.parametrize(
    ("family", "model"), [(0x19, 0x20), (0x19, 0xB0), (0x1A, 0x12), (0x1A, 0x50), (0, 0), (0x18, 1)]
)
def test_an_unknown_cpu_is_refused_by_name(family: int, model: int) -> None:
    with pytest.raises(EvidenceUnsupported, match=f"family 0x{family:x} model 0x{model:x}"):
        product_of_cpuid(family, model)


def test_what_is_shown_before_version_3_is_a_guess_and_never_an_error() -> None:
    assert product_of_report(SnpReport.parse(V2.raw)) is None
    assert likely_product(SnpReport.parse(V2.raw)) is None
    turin = V2.with_(report={**V2.report, "chip_id": b"\x01" * 8 + bytes(56)})
    assert likely_product(SnpReport.parse(turin.raw)) is SnpProduct.TURIN
    unknown = FakeAmdPki(report={"cpuid_mod_id": 0x50})
    assert likely_product(SnpReport.parse(unknown.raw)) is None
    assert tcb_for_display(b"\x01\x02\x03\x04\0\0\0\x05", None) is None
    shown = tcb_for_display(b"\x01\x02\x03\x04\0\0\0\x05", SnpProduct.TURIN)
    assert shown is not None
    assert shown.fmc == 1


@given(st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
def test_random_bytes_parse_or_are_malformed(data: bytes) -> None:
    try:
        assert SnpReport.parse(data).raw == data
    except EvidenceMalformed:
        pass


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(sorted(set(OFFSETS) - {"version", "key_info"})), st.integers(0, 255), max_size=6)
)
def test_fields_survive_a_round_through_the_parser(values: dict[str, int]) -> None:
    report = SnpReport.parse(FakeAmdPki(report={"version": 5, **_sized(values)}).raw)
    for name, value in values.items():
        got = getattr(report, name)
        assert (int.from_bytes(got, "little") if isinstance(got, bytes) else got) == value


def _sized(values: dict[str, int]) -> dict[str, int | bytes]:
    return dict(values)

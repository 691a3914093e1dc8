"""TDVF descriptors and MRTD."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.errors import FirmwareMalformed
from ovmf.td_firmware import TdFirmware
from ovmf.td_metadata import BFV, CFV, PAGE_AUG, PERM_MEM, TD_HOB, TEMP_MEM, TdSection
from policy.errors import CvmError
from tests.fakes.td_images import real_firmware, td_image, usual_sections


def entries(vectors: Path, kind: str) -> list[dict[str, Any]]:
    manifest = json.loads((vectors / "tdx" / "manifest.json").read_text())
    found = [entry for entry in manifest["entries"] if entry["kind"] == kind]
    assert found
    return found


def plain_mrtd(image: bytes, sections: tuple[TdSection, ...], two_pass: bool) -> bytes:
    """MRTD once more, record by record as the specification tells it."""
    digest = hashlib.sha384()

    def add(page: int) -> None:
        digest.update((b"MEM.PAGE.ADD" + bytes(4) + page.to_bytes(8, "little")).ljust(128, b"\0"))

    def extend(section: TdSection, page: int) -> None:
        for gpa in range(page, page + 4096, 256):
            at = gpa - section.address
            raw = image[section.data_offset : section.data_offset + section.raw_size][at : at + 256]
            digest.update((b"MR.EXTEND" + bytes(7) + gpa.to_bytes(8, "little")).ljust(128, b"\0"))
            digest.update(raw.ljust(256, b"\0"))

    for section in sections:
        pages = range(section.address, section.address + section.size, 4096)
        for page in pages if section.attributes & 2 == 0 else ():
            add(page)
            if section.attributes & 1 and not two_pass:
                extend(section, page)
        if two_pass and section.attributes & 1:
            for page in pages:
                extend(section, page)
    return digest.digest()


def test_made_up_images_measure_as_three_other_programs_say(vectors: Path) -> None:
    for entry in entries(vectors, "mrtd_synthetic"):
        firmware = TdFirmware.from_bytes((vectors / "tdx" / entry["file"]).read_bytes())
        assert firmware.mrtd().hex() == entry["expected"]["mrtd"]
        assert firmware.mrtd(two_pass=True).hex() == entry["expected"]["mrtd_two_pass"]


def test_bad_images_are_refused(vectors: Path) -> None:
    for entry in entries(vectors, "mrtd_bad"):
        with pytest.raises(FirmwareMalformed):
            TdFirmware.from_bytes((vectors / "tdx" / entry["file"]).read_bytes())


@pytest.mark.parametrize("name", ["OVMF.fd", "OVMF.inteltdx.ms.fd"])
def test_real_firmware_measures_as_three_other_programs_say(vectors: Path, name: str) -> None:
    path = real_firmware(name)
    if path is None:
        pytest.skip(f"no {name}: let the project fetch its toolchain")
    firmware = TdFirmware.from_bytes(path.read_bytes())
    for entry in entries(vectors, "mrtd"):
        figures = json.loads((vectors / "tdx" / entry["file"]).read_text())
        if figures["firmware_sha256"] == firmware.sha256.hex():
            break
    else:
        pytest.skip(f"no figures for this {name}")
    assert firmware.mrtd().hex() == figures["expected"]["mrtd"]
    assert firmware.mrtd(two_pass=True).hex() == figures["expected"]["mrtd_two_pass"]
    assert firmware.configuration is not None
    assert hashlib.sha384(firmware.configuration).hexdigest() == figures["expected"]["cfv_sha384"]


def changed(index: int, **fields: int) -> list[TdSection]:
    sections = usual_sections()
    sections[index] = sections[index]._replace(**fields)
    return sections


@pytest.mark.parametrize(("image", "words"), [
    (td_image(version=2), "version: got 2"),
    (td_image(signature=b"TDVX"), "signature"),
    (td_image(guid=bytes(16)), "GUID"),
    (td_image(distance=0), "outside"),
    (td_image(distance=0x10000), "outside"),
    (td_image(distance=0xFFFFFFFF), "outside"),
    (td_image(count=5), "count"),
    (td_image(count=0xFFFFFFFF), "count"),
    (td_image(length=16), "count"),
    (td_image(length=4000), "length"),
    (td_image(changed(0, data_offset=0x4001)), "data ends"),
    (td_image(changed(0, raw_size=0xD000)), "data ends|exceeds"),
    (td_image(changed(1, raw_size=0x5000)), "exceeds"),
    (td_image(changed(0, address=0xFFFF4100)), "whole 4 KiB pages"),
    (td_image(changed(2, size=0x3001)), "whole 4 KiB pages"),
    (td_image(changed(2, size=0)), "memory size"),
    (td_image(changed(2, address=0x80A000)), "overlap"),
    (td_image(changed(0, attributes=0)), "measured"),
    (td_image(changed(3, raw_size=0x1000)), "want none"),
    (td_image(changed(2, type=9)), "type: got 9"),
    (td_image(changed(2, attributes=4)), "attributes"),
    (td_image(changed(2, attributes=3)), "attributes"),
    (td_image(changed(1, attributes=PAGE_AUG)), "not added"),
    (td_image(changed(2, address=1 << 52)), "beyond"),
    (td_image(changed(2, size=0x10000000)), "more than 64 MiB|overlap"),
    (td_image(changed(0, type=CFV)), "0 sections BFV"),
    (td_image(changed(2, type=TD_HOB)), "2 sections TD_HOB"),
])  # fmt: skip
def test_a_descriptor_with_one_thing_wrong_is_refused(image: bytes, words: str) -> None:
    with pytest.raises(FirmwareMalformed, match=words):
        TdFirmware.from_bytes(image)


def test_an_image_without_tdx_metadata_cannot_start_a_td() -> None:
    from tests.fakes import firmware as fake

    with pytest.raises(FirmwareMalformed, match="no TDX metadata"):
        TdFirmware.from_bytes(fake.image())


@st.composite
def images(draw: st.DrawFn) -> bytes:
    sections: list[TdSection] = []
    address = draw(st.integers(0, 40)) * 4096
    for kind in [BFV, *draw(st.lists(st.sampled_from([BFV, CFV, TEMP_MEM, PERM_MEM]), max_size=4))]:
        size = draw(st.integers(1, 40)) * 4096
        raw = draw(st.integers(0, min(size, 0x10000))) if kind in (BFV, CFV) else 0
        attributes = 1 if kind == BFV else draw(st.sampled_from([0, 1])) if raw else draw(st.sampled_from([0, 1, 2]))
        sections.append(TdSection(draw(st.integers(0, 0x10000 - raw)), raw, address, size, kind, attributes))
        address += size + draw(st.integers(0, 3)) * 4096
    order = draw(st.permutations(sections))
    return td_image(list(order), fill=draw(st.binary(min_size=1, max_size=300)))


@settings(max_examples=60, deadline=None)
@given(images())
def test_mrtd_is_what_the_records_one_by_one_give(image: bytes) -> None:
    firmware = TdFirmware.from_bytes(image)
    assert firmware.mrtd() == plain_mrtd(image, firmware.sections, two_pass=False)
    assert firmware.mrtd(two_pass=True) == plain_mrtd(image, firmware.sections, two_pass=True)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_damaged_descriptors_raise_our_error_or_parse(noise: bytes, at: int) -> None:
    image = bytearray(td_image())
    start = len(image) - 2048 - 16 + at
    image[start : start + len(noise)] = noise
    try:
        TdFirmware.from_bytes(bytes(image))
    except CvmError:
        return

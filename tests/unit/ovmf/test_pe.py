"""Authenticode digests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovmf.errors import PeMalformed
from ovmf.pe import authenticode, parse_pe


def test_images_have_the_digest_firmware_computes(vectors: Path) -> None:
    manifest = json.loads((vectors / "tdx" / "manifest.json").read_text())
    cases = [entry for entry in manifest["entries"] if entry["kind"] == "pe_authenticode"]
    assert len(cases) == 3
    for case in cases:
        data = (vectors / "tdx" / case["file"]).read_bytes()
        assert authenticode(data).hex() == case["expected"]["authenticode_sha384_edk2"]
        assert authenticode(data, "sha256").hex() == case["expected"]["authenticode_sha256_edk2"]


def small_pe(
    *, sections: list[tuple[int, int]] | None = None, certificate: bytes = b"", tail: bytes = b"", headers: int = 512,
    magic: int = 0x20B, directories: int = 16,
) -> bytes:  # fmt: skip
    """A PE32+ image of no code: sections as (offset, size), then ``tail``, then a certificate table."""
    sections = [(512, 512), (1024, 256)] if sections is None else sections
    end = max((offset + size for offset, size in sections), default=headers)
    body = bytearray(i * 7 % 251 for i in range(end)) + tail
    optional = magic.to_bytes(2, "little") + bytes(58) + headers.to_bytes(4, "little") + b"SUM!"
    optional += bytes(40) + directories.to_bytes(4, "little") + bytes(32)
    optional += (len(body) if certificate else 0).to_bytes(4, "little") + len(certificate).to_bytes(4, "little")
    optional += bytes(8 * (16 - 5))
    head = b"MZ".ljust(60, b"\0") + (64).to_bytes(4, "little") + b"PE\0\0" + b"\x64\x86"
    head += len(sections).to_bytes(2, "little") + bytes(12) + len(optional).to_bytes(2, "little") + bytes(2) + optional
    for offset, size in sections:
        head += b".x".ljust(16, b"\0") + size.to_bytes(4, "little") + offset.to_bytes(4, "little") + bytes(16)
    body[: len(head)] = head
    return bytes(body) + certificate


def test_what_is_left_out_does_not_count_and_all_else_does() -> None:
    data = small_pe(certificate=b"c" * 16)
    image = parse_pe(data)
    want = authenticode(data)
    assert image.security is not None
    skipped = {*range(image.checksum, image.checksum + 4), *range(len(data) - 16, len(data))}
    for at in (image.checksum, image.checksum + 3, len(data) - 1, 2, 70, image.checksum - 1, 600, 1279):
        changed = bytearray(data)
        changed[at] ^= 1
        try:
            same = authenticode(bytes(changed)) == want
        except PeMalformed:
            same = False
        assert same == (at in skipped), at


@pytest.mark.parametrize("data", [
    b"", b"MZ", b"XX" + small_pe()[2:], small_pe()[:100], small_pe(magic=0x30B), small_pe(directories=17),
    small_pe(sections=[]), small_pe(sections=[(512, 512), (768, 256)]), small_pe(sections=[(256, 512)]),
    small_pe()[:-1], small_pe(headers=100), small_pe(headers=5000), small_pe(certificate=b"c" * 8) + b"more",
])  # fmt: skip
def test_an_image_whose_digest_would_be_ambiguous_is_refused(data: bytes) -> None:
    with pytest.raises(PeMalformed):
        authenticode(data)


@given(st.binary(max_size=400), st.integers(0, 500))
def test_noise_raises_our_error_or_has_a_digest(noise: bytes, at: int) -> None:
    data = small_pe()
    try:
        assert len(authenticode(data[:at] + noise + data[at + len(noise) :])) == 48
    except PeMalformed:
        return

"""OVMF-like images of random size, sections and footer entries, for Hypothesis: valid by construction."""

from __future__ import annotations

from struct import pack
from typing import NamedTuple

from hypothesis import strategies as st

from ovmf.footer import SEV_ES_RESET_BLOCK, SEV_HASH_TABLE, SEV_METADATA
from ovmf.svsm import SVSM_INFO
from tests.fakes import firmware as fake

PAGE = 4096
KERNEL_HASHES = 0x10


class Image(NamedTuple):
    """An image; ``measures_kernel`` says it has a section for boot hashes and its hash table lies in it."""

    data: bytes
    measures_kernel: bool


@st.composite
def section_lists(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """Sections that do not overlap, in any order: gaps and sizes random, at most one for boot hashes."""
    address = draw(st.integers(0, 0x800)) * PAGE
    sections = []
    kinds = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 4]), max_size=10))
    if draw(st.booleans()):
        kinds.append(KERNEL_HASHES)
    for kind in kinds:
        address += draw(st.integers(0, 64)) * PAGE
        size = PAGE if kind in (2, 3, KERNEL_HASHES) else draw(st.integers(1, 20)) * PAGE
        sections.append((address, size, kind))
        address += size
    return draw(st.permutations(sections))


@st.composite
def images(draw: st.DrawFn) -> Image:
    """A firmware image of 2 to 40 pages, its footer entries in any order and among unknown ones."""
    sections = draw(section_lists())
    homes = [gpa for gpa, _, kind in sections if kind == KERNEL_HASHES]
    eip = draw(st.integers(1, 0xFFFFFFFF).filter(lambda value: value != 0xFFFFFFF0))
    entries = [
        fake.entry(SEV_ES_RESET_BLOCK, pack("<I", eip)),
        fake.entry(SEV_METADATA, pack("<I", fake.METADATA_FROM_END)),
    ]
    if homes and homes[0]:
        table = homes[0] + draw(st.integers(0, PAGE - 176))
        entries.append(fake.entry(SEV_HASH_TABLE, pack("<II", table, draw(st.integers(176, 0x1000)))))
    entries += draw(_unknown_entries())
    data = fake.image(draw(st.permutations(entries)), fake.metadata(sections), size=draw(st.integers(2, 40)) * PAGE)
    return Image(draw(_with_noise(data)), bool(homes and homes[0]))


@st.composite
def svsms(draw: st.DrawFn) -> bytes:
    """An SVSM binary of 2 to 20 pages."""
    size = draw(st.integers(2, 20)) * PAGE
    entries = [
        fake.entry(SVSM_INFO, pack("<I", draw(st.integers(0, size - 1)))),
        fake.entry(SEV_METADATA, pack("<I", fake.METADATA_FROM_END)),
        *draw(_unknown_entries()),
    ]
    data = fake.image(draw(st.permutations(entries)), fake.metadata(draw(section_lists())), size=size)
    return bytes(draw(_with_noise(data)))


def _unknown_entries() -> st.SearchStrategy[list[bytes]]:
    one = st.builds(fake.entry, st.binary(min_size=16, max_size=16), st.binary(max_size=40))
    return st.lists(one, max_size=4, unique_by=lambda entry: entry[-16:])


@st.composite
def _with_noise(draw: st.DrawFn, data: bytes) -> bytes:
    """Other bytes in the first page, which no table reaches."""
    noise = draw(st.binary(max_size=64))
    at = draw(st.integers(0, 2000))
    return data[:at] + noise + data[at + len(noise) :]

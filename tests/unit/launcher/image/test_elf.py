"""launcher.image.elf: what a binary needs, and refusing what is no ELF file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.image.elf import module_info, needed_libraries
from launcher.image.errors import PackageMalformed
from tests.fakes.elf import elf

SAMPLE = elf(needed=("libm.so.6", "libc.so.6"), modinfo=("depends=a,b", "alias=one", "alias=two", "novalue"))


def test_needed_libraries_come_in_the_files_order() -> None:
    assert needed_libraries(SAMPLE, "sample") == ("libm.so.6", "libc.so.6")


def test_a_static_binary_needs_nothing() -> None:
    assert needed_libraries(elf(), "static") == ()


def test_module_info_keeps_every_value_of_a_key() -> None:
    assert module_info(SAMPLE, "sample") == {"depends": ("a,b",), "alias": ("one", "two")}


def test_this_machines_shell_needs_the_c_library() -> None:
    shell = Path(shutil.which("bash") or "/bin/sh")
    assert any(name.startswith("libc.so") for name in needed_libraries(shell.read_bytes(), "shell"))


@given(st.integers(min_value=0, max_value=len(SAMPLE) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(PackageMalformed):
        needed_libraries(SAMPLE[:length], "cut")


@given(st.integers(min_value=0, max_value=len(SAMPLE) - 1), st.integers(min_value=0, max_value=255))
def test_a_changed_byte_gives_an_answer_or_our_error(position: int, value: int) -> None:
    changed = SAMPLE[:position] + bytes([value]) + SAMPLE[position + 1 :]
    for read in (needed_libraries, module_info):
        try:
            read(changed, "changed")
        except PackageMalformed as error:
            assert "changed" in error.message


@given(st.binary(max_size=200))
def test_arbitrary_bytes_after_the_magic_are_refused_with_our_error(tail: bytes) -> None:
    try:
        needed_libraries(b"\x7fELF\x02\x01" + tail, "noise")
    except PackageMalformed:
        return

"""TOML is read in time and memory in proportion to its length, and nothing an operator writes is refused for it."""

from __future__ import annotations

import time
import tomllib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.toml import MAX_BYTES, MAX_DOTS, MAX_KEYS, MAX_WORD, TomlInvalid, strict_toml

DOCUMENTS = sorted((Path(__file__).resolve().parents[3] / "policy" / "documents").glob("*.toml"))
QUARTER = MAX_BYTES // 4
EXPENSIVE = {
    "a key of 500 000 parts": ".".join(["a"] * (MAX_BYTES // 2)) + "",
    "a key of 100 000 parts": ".".join(["a"] * 100_000) + " = 1",
    "a key of quoted parts": '."a"' * QUARTER,
    "parts with blanks between them": "a . " * QUARTER,
    "a header of 100 000 parts": "[" + ".".join(["a"] * 100_000) + "]\nb.c = 1",
    "a long header and many keys": "[" + ".".join(["a"] * 1000) + "]\n" + "".join(f"b.c{i} = 1\n" for i in range(9000)),
    "100 000 tables": "".join(f"[t{i}]\n" for i in range(100_000)),
    "an array of 100 000 tables": "[[a]]\n" * 100_000,
    "100 000 keys": "".join(f"a{i}=1\n" for i in range(100_000)),
    "dotted keys of an inline table": "a = {" + ",".join(f"b.c{i} = 1" for i in range(60_000)) + "}",
    "lists as deep as they go": "a = " + "[" * QUARTER,
    "inline tables as deep as they go": "a = " + "{a=" * QUARTER,
    "many small lists": "a = [" + "[]," * QUARTER + "]",
    "an integer of absurd length": "a = " + "9" * (MAX_BYTES - 4),
    "a fraction of absurd length": "a = 1." + "9" * (MAX_BYTES - 6),
    "words just short enough": "a" * MAX_WORD + " " + ("b" * MAX_WORD + " ") * (MAX_BYTES // MAX_WORD - 2),
    "quotes that never end": '"' + '\\"' * (MAX_BYTES // 2 - 1),
    "three quotes that never end": 'a = """' + '""\\' * QUARTER,
    "apostrophes that never end": "a = '''" + "''\n" * QUARTER,
    "unended strings on every line": '"\n' * (MAX_BYTES // 2),
    "dots and nothing else": "." * MAX_BYTES,
    "dots on lines of their own": ".\n" * (MAX_BYTES // 2),
    "sixteen dots and a long line": "." * MAX_DOTS + "a " * (MAX_BYTES // 2 - MAX_DOTS),
}


@pytest.mark.parametrize("what", EXPENSIVE)
def test_an_expensive_document_is_refused_at_once(what: str) -> None:
    started = time.process_time()
    with pytest.raises(TomlInvalid):
        strict_toml(EXPENSIVE[what].encode())
    assert time.process_time() - started < 5, "a tenth of a second is usual; quadratic readers need minutes"


@pytest.mark.parametrize("text", [
    "a = [" + "1," * (MAX_BYTES // 20) + "]",
    "a = [" + "1979-05-27," * (MAX_BYTES // 110) + "]",
    'a = "' + "\\n" * (MAX_BYTES // 2 - 4) + '"',
    "\n" * MAX_BYTES,
    "a = " + "9" * MAX_WORD,
    "".join(f"[{'.'.join('abcdefghijklmno')}.p{i}]\n" for i in range(MAX_KEYS)),
    "[" + ".".join("abcdefghijklmnop") + "]\n" + "".join(f"{'.'.join('abcdefghijklmno')}.p{i}=1\n" for i in range(MAX_KEYS)),
], ids=["integers", "dates", "escapes", "empty lines", "digits", "tables", "dotted keys"])  # fmt: skip
def test_the_most_that_is_read_stays_within_64_megabytes(text: str) -> None:
    tracemalloc.start()
    try:
        strict_toml(text.encode())
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_a_shipped_policy_reads_as_the_standard_library_reads_it(path: Path) -> None:
    assert strict_toml(path.read_bytes()) == tomllib.loads(path.read_text())


def test_ten_thousand_chips_are_a_list_and_not_too_much() -> None:
    chips = ", ".join(f'"{index:064x}"' for index in range(10_000))
    assert len(strict_toml(f"chips = [{chips}]")["chips"]) == 10_000


@pytest.mark.parametrize("text", [
    'a = "' + "." * 100 + '"', "a = '" + "=" * 9000 + "'", "# " + "a.b = [{" * 3000, 'a = """' + "x.=[{" * 5000 + '"""',
    "a = '''" + "'.'=[" * 3000 + "'''", 'a = """' + '\\""". = ' * 5000 + '"""', 'a = """.' + "." * 20 + '"""""',
])  # fmt: skip
def test_signs_inside_strings_and_comments_do_not_count(text: str) -> None:
    assert strict_toml(text) == tomllib.loads(text)


def test_a_key_of_seventeen_parts_is_read_and_one_of_eighteen_is_not() -> None:
    parts = ["a"] * (MAX_DOTS + 1)
    assert strict_toml(".".join(parts) + " = 1")
    with pytest.raises(TomlInvalid, match="more than 16 dots"):
        strict_toml(".".join([*parts, "a"]) + " = 1")


@pytest.mark.parametrize(("data", "text"), [
    (b"\xff", "byte 0 is not UTF-8"), (b"a = ", "not TOML"), (b"a" * (MAX_BYTES + 1), "1048577 bytes"),
    ("a" * (MAX_BYTES + 1), "1048577 bytes"), ("\u20ac" * QUARTER * 2, "bytes, want"), ("a = '\ud800\u0007'", "not TOML"),
])  # fmt: skip
def test_what_is_not_toml_is_named(data: bytes | str, text: str) -> None:
    with pytest.raises(TomlInvalid, match=text):
        strict_toml(data)


@given(
    st.lists(
        st.sampled_from(['"', "'", '"""', "'''", "\\", "#", "\n", "a", "b", " = ", ".", "[", "]", "{", "}", ","]),
        max_size=30,
    )
)
def test_whatever_the_standard_library_reads_small_is_read_alike(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        want = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    if text.count(".") <= MAX_DOTS:
        assert strict_toml(text) == want

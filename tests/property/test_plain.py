"""The plain readers and writers agree with the standard library's wherever they answer."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher.config.vm_toml import NAME, is_name
from launcher.core.console import sign_of
from launcher.core.text import shell_word
from launcher.io import clock
from launcher.io.toolchain import parse_version
from launcher.io.which import which
from policy import plain_json
from policy.late import small_sha256
from policy.plain_toml import plain_toml

LINES = st.sampled_from([
    "[a]", "[b]", "[[a]]", "[[c]]", "[ a ]", "[[d] ]", "[a.b]", "[]", "[[]]", "[", "[a]]", "[[a]", '["a"]', "[a] # c",
    "x = 1", "x=true", "y = false", 'y = "text"', 'z = ""', 'z = "a # b"', 'z = "a" # b', "n = 007", "n = +1", "n = 1_0",
    "n = 1.5", "n = 0", "n = 1 # c", "n = 1979-05-27", "a = 1", "c = 2", 'c = ["a", "b"]', 'k = ["a,", ",b"]', "k = []",
    'k = ["a",]', 'k = ["a" # c', 'k = ["]"] # ]', 'e = { a = "1", b = "2" }', "e = {}", 'e = { a = "1", a = "2" }',
    'e = {a="1"}', 'e = { a = "1" } x', "x.y = 1", '"q" = 1', "' = 1", "t = '''", '"""', "s = '[a]'", 's = """', "'''",
    's = "\\n"', 's = "ü"', "s = \"\t\"", "#", "# [z]", " ", "\t", "é = 1", "x", "=", "= 1", "x =", "\r", "\x00", "x = tru",
    'x = "a"b', 'x = "a" "b"', 'x = ""a', "x = [1]", "x = 1]", "x = 1 2", "٣ = 1", "x = ٣", "\ufeffx = 1", "x = 1\u2028",
])  # fmt: skip


@given(st.lists(LINES, max_size=8).map("\n".join))
@example("[[a]]\n[a]")
@example("[a]\n[[a]]")
@example('s = """\n[a]\nx = 1\n"""')
def test_a_plain_document_is_what_the_standard_library_reads(text: str) -> None:
    found = plain_toml(text)
    if found is not None:
        assert found == tomllib.loads(text)


@given(st.text(alphabet="ab[]{}=,\"#'\\ \n01é\t\r.", max_size=40))
def test_whatever_is_taken_for_plain_is_what_the_standard_library_reads(text: str) -> None:
    found = plain_toml(text)
    if found is not None:
        assert found == tomllib.loads(text)


@pytest.mark.parametrize("name", ["plain", "sev-snp"])
def test_an_ordinary_vm_file_is_plain(name: str) -> None:
    text = (Path(__file__).parent.parent / "fuzz" / "corpus" / "vm_toml" / f"{name}.toml").read_text()
    assert plain_toml(text) == tomllib.loads(text)


@pytest.mark.parametrize("text", ["x = 1\n" * 2, f"{'x' * 65} = 1", "\n" * 500, f"x = {'1' * 16}"])
def test_a_mistake_and_anything_large_is_left_to_the_whole_grammar(text: str) -> None:
    assert plain_toml(text) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_written_as_the_standard_library_writes_it(value: object) -> None:
    assert plain_json.dumps(value) == json.dumps(value, separators=(",", ":"))
    assert plain_json.pretty(value) == json.dumps(value, indent=1)


@given(VALUES, st.sampled_from([None, 2]))
def test_json_is_read_as_the_standard_library_reads_it(value: object, indent: int | None) -> None:
    assert plain_json.loads(f" \n{json.dumps(value, indent=indent)}\t") == value


@given(st.text(alphabet='[]{}:,"\\u0aeE+-.1 \n', max_size=30))
@example("")
@example("[1] 2")
@example('"\x00"')
def test_what_the_standard_library_refuses_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert plain_json.loads(text) == json.loads(text)
        return
    with pytest.raises(ValueError, match=r"."):
        json.loads(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "\ufeff{}"])
def test_what_is_not_json_although_the_standard_library_reads_it_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON"):
        plain_json.loads(text)


def test_a_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes is not JSON"):
        plain_json.dumps({"a": b""})


@given(st.text(alphabet="aZ0-_' \né", max_size=8) | st.text(alphabet="a-", min_size=60, max_size=65))
def test_words_are_judged_and_quoted_as_by_regular_expressions(text: str) -> None:
    assert is_name(text) == bool(re.fullmatch(NAME, text))
    assert shell_word(text) == shlex.quote(text)


@given(st.text(alphabet="01.- a", max_size=8))
def test_a_version_is_what_a_regular_expression_finds(text: str) -> None:
    match = re.match(r"\d+(?:\.\d+)+", text)
    assert parse_version(text) == (tuple(map(int, match[0].split("."))) if match else ())


@given(st.text(alphabet="[] .0", max_size=14).map(lambda text: f"{text}] x") | st.just("[    1.000000] x"))
def test_a_line_of_the_kernel_is_what_a_regular_expression_finds(line: str) -> None:
    assert (sign_of(line) is not None) == bool(re.match(r"\[ *\d+\.\d{6}\] ", line))


@given(st.binary(max_size=300))
def test_a_small_digest_is_that_of_the_standard_library(data: bytes) -> None:
    assert small_sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()


@given(st.integers(min_value=0, max_value=2**41))
def test_a_time_is_written_as_the_standard_library_writes_it(milliseconds: int) -> None:
    seconds, rest = divmod(milliseconds, 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time_ns", lambda: milliseconds * 10**6)
        written = clock.now_in_milliseconds()
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
    assert written == moment.isoformat(timespec="milliseconds")


def test_a_program_is_found_where_the_standard_library_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("none", "plain", "runs", "also"):
        (tmp_path / folder).mkdir()
    (tmp_path / "none/tool").mkdir()
    for folder, mode in (("plain", 0o644), ("runs", 0o755), ("also", 0o755)):
        (tmp_path / folder / "tool").touch(mode)
    folders = [str(tmp_path / name) for name in ("missing", "none", "plain", "runs", "also")]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    assert which("tool") == shutil.which("tool") == str(tmp_path / "runs/tool")
    monkeypatch.setenv("PATH", os.pathsep.join(folders[:3]))
    assert which("tool") is None is shutil.which("tool")

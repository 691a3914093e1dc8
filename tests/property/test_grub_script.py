"""Whatever stands in a configuration of GRUB, parsing ends in a tree or in our own refusal, and words come back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ovmf.grub_script import Command, ScriptUnknown, parse_script
from tests.fakes.debian_disk import CONFIG

plain = st.text("abcXYZ019/=,.:@%+-", min_size=1, max_size=12).filter(lambda word: word not in ("do", "fi"))
quoted = st.text("ab ;#{}$*\\\t\u00e9", max_size=12)


@given(st.lists(st.one_of(plain, quoted.map(lambda text: f"'{text}'")), min_size=1, max_size=6), plain)
def test_words_are_read_as_they_were_written(rest: list[str], first: str) -> None:
    [command] = parse_script(f"  x{first}\t{' '.join(rest)} ; # a comment\n")
    assert isinstance(command, Command)
    want = [f"x{first}", *(word.strip("'") if word.startswith("'") else word for word in rest)]
    assert ["".join(piece.text for piece in word) for word in command.words] == want


@settings(max_examples=200)
@given(st.text("if then else fi $x\n;{}[]'\"#|function menuentry", max_size=80))
def test_any_text_is_a_script_or_refused(text: str) -> None:
    try:
        parse_script(text)
    except ScriptUnknown:
        return


@given(st.integers(0, len(CONFIG)), st.text(max_size=3), st.integers(0, 5))
def test_a_configuration_with_a_change_is_a_script_or_refused(at: int, put: str, cut: int) -> None:
    try:
        parse_script(CONFIG[:at] + put + CONFIG[at + cut :])
    except ScriptUnknown:
        return

"""The quick look at how deep a JSON text is nested never lets through what the exact count refuses."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy import strictjson
from policy.errors import MalformedInput
from policy.strictjson import MAX_DEPTH, strict_json

PIECES = st.sampled_from(['"', '""', "\\", '\\"', "[", "]", "{", "}", "a", "[" * 20, "]" * 20, '"]"', '"["', "ü"])


def exact_depth(text: str) -> int:
    """As deep as brackets outside of strings go, one character after the other."""
    depth = deepest = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


@given(st.lists(PIECES, max_size=40).map("".join))
@example("[" * 40 + "]" * 40)
@example('"]"'.join("[" * 40) + "]" * 40)
def test_what_looks_shallow_is_shallow(text: str) -> None:
    assert not strictjson._is_shallow(text) or exact_depth(text) <= MAX_DEPTH


@pytest.mark.parametrize("filler", ["", '"]"', '"\\"]"', '"[]"'])
def test_one_level_too_many_is_refused_and_one_less_is_read(filler: str) -> None:
    def nested(depth: int) -> str:
        inner = filler
        for _ in range(depth):
            inner = f"[{filler},{inner}]" if filler else f"[{inner}]"
        return inner

    strict_json(nested(MAX_DEPTH), "body")
    with pytest.raises(MalformedInput, match="nested deeper than 32"):
        strict_json(nested(MAX_DEPTH + 1), "body")

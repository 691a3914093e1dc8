"""The JSON Schema and the decoder of a VM file agree about keys, types and choices."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cli import main
from launcher.config.schema import vm_schema
from launcher.config.vm_toml import PLATFORMS, decode
from policy.table import Problems, Table

ROOT = Path(__file__).parents[4]
SCHEMA = vm_schema()
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
_TYPE = "a string|an integer|true or false|a list of strings|a table|an array of tables"
_SHAPE = re.compile(rf"^unknown key|^missing|^got .*, want (?:(?:{_TYPE})$|one of )")


def problems(document: dict[str, Any]) -> list[str]:
    found = Problems()
    decode(Table(document, found))
    return found.found


def examples() -> list[tuple[str, str]]:
    guide = (ROOT / "docs/operator.md").read_text()
    blocks = [block for block in re.findall(r"```toml\n(.*?)```", guide, re.S) if "\nplatform = " in block]
    corpus = ROOT / "tests/fuzz/corpus/vm_toml"
    return [("operator.md", block) for block in blocks] + [
        (name, (corpus / name).read_text()) for name in ("plain.toml", "sev-snp.toml")
    ]


def test_there_are_examples_to_hold_the_schema_against() -> None:
    assert len(examples()) >= 3


@pytest.mark.parametrize(("name", "text"), examples())
def test_every_shipped_example_is_valid(name: str, text: str) -> None:
    document = tomllib.loads(text)
    assert problems(document) == [], name
    assert VALIDATOR.is_valid(document), [str(error) for error in VALIDATOR.iter_errors(document)]


def places(shape: dict[str, Any], at: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str, dict[str, Any]]]:
    """(path of tables, key, shape of the key) of everything in the schema."""
    found = []
    for key, value in shape["properties"].items():
        found.append((at, key, value))
        inner = value.get("items", value)
        if inner["type"] == "object":
            found += places(inner, (*at, key))
    return found


PLACES = places(SCHEMA)


def test_the_schema_knows_every_table_of_the_file() -> None:
    tables = {key for at, key, _ in PLACES if at == ()}
    assert {"schema", "name", "platform", "memory", "cpu", "boot", "disk", "net", "snp", "tdx", "lifecycle"} <= tables
    assert ("disk", "encrypted") in {(at[0], key) for at, key, _ in PLACES if at}


def whole() -> dict[str, Any]:
    """A document with every table there is."""

    def make(shape: dict[str, Any]) -> Any:
        if shape["type"] == "object":
            return {key: make(value) for key, value in shape["properties"].items()}
        if shape["type"] == "array":
            return [make(shape["items"])]
        plain = {"string": "x", "integer": 1, "boolean": False}
        return shape["enum"][0] if "enum" in shape else shape.get("default", plain[shape["type"]])

    made: dict[str, Any] = make(SCHEMA)
    return made


def test_a_document_with_every_key_has_no_unknown_one() -> None:
    assert VALIDATOR.is_valid(whole())
    assert not any("unknown key" in text for text in problems(whole()))


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(PLACES), key=st.text(min_size=1, max_size=12))
def test_random_keys_are_unknown_to_both_or_to_neither(place: tuple[Any, ...], key: str) -> None:
    document = whole()
    table: Any = document
    for step in place[0]:
        table = table[step][0] if isinstance(table[step], list) else table[step]
    table.setdefault(key, "x")
    unknown = any("unknown key" in text for text in problems(document))
    assert VALIDATOR.is_valid(document) is not unknown


@pytest.mark.parametrize(("at", "key", "shape"), PLACES)
@pytest.mark.parametrize("wrong", ["text", 7, True, [], {}, ["x"], [{}], 1.5])
def test_a_value_of_the_wrong_type_is_wrong_for_both(
    at: tuple[str, ...], key: str, shape: dict[str, Any], wrong: object
) -> None:
    document = copy.deepcopy(whole())
    table: Any = document
    for step in at:
        table = table[step][0] if isinstance(table[step], list) else table[step]
    before = set(problems(document))
    table[key] = wrong
    fresh = [text for text in problems(document) if text not in before]
    if VALIDATOR.is_valid(document):
        assert not any(_SHAPE.search(text.partition(": ")[2]) for text in fresh), (at, key, shape, wrong, fresh)
    else:
        assert fresh, (at, key, shape, wrong)


def test_every_platform_is_a_choice() -> None:
    assert SCHEMA["properties"]["platform"]["enum"] == list(PLATFORMS)


def test_the_verb_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(SCHEMA))

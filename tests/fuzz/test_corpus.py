"""Every fuzz target runs its corpus, and mutations of it, as an ordinary test: no Atheris needed to notice a crash."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.py") if path.stem != "__init__")


def _one(name: str) -> Callable[[bytes], None]:
    target: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.targets.{name}").one
    return target


def _seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((HERE / "corpus" / name).glob("*")) if path.is_file()]


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_its_corpus(name: str) -> None:
    seeds = _seeds(name)
    assert seeds, f"no corpus for {name}"
    for seed in (b"", *seeds):
        _one(name)(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_survives_truncated_extended_and_flipped_seeds(name: str) -> None:
    one = _one(name)
    dice = random.Random(name)
    for seed in _seeds(name)[:8]:
        for _ in range(60):
            data = bytearray(seed)
            for _ in range(dice.randint(1, 4)):
                if data:
                    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            cut = dice.randrange(len(data) + 1)
            one(bytes(data))
            one(bytes(data[:cut]))
            one(bytes(data) + dice.randbytes(dice.randint(1, 40)))

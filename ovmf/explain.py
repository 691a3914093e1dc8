"""Why a reported launch digest is not the expected one.

A digest says nothing about its inputs, but a recipe that *reproduces* it proves every one of them: `ovmf.search` looks
for it among the given recipes and the alternatives known to happen by themselves. Nothing is guessed; without a
reproducing recipe the outcome is ``unexplained``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ovmf.alternatives import BOOT_FIELDS, FIRMWARE_FIELDS, NO_CMDLINE
from ovmf.kernel_hashes import NO_INITRD
from ovmf.search import Search
from ovmf.snp_launch import digest_from_recipe
from ovmf.vcpu import describe_signature
from ovmf.vmm import vmm_named
from policy.reference import LaunchRecipe
from policy.vocab import LaunchDigest

SAME, EXPLAINED, UNEXPLAINED = "same", "explained", "unexplained"

_LABELS = {
    "firmware": "firmware",
    "vcpus": "vCPUs",
    "vcpu_sig": "CPU model",
    "guest_features": "guest features",
    "vmm": "VMM",
    "kernel": "kernel",
    "initrd": "initrd",
    "cmdline": "command line",
    "kernel_hashes": "measured boot",
}
_PLURAL = ("vcpus", "guest_features")


class Difference(NamedTuple):
    """One input that is proven not to be the expected one: its name as in `cvm measure`, both values as text."""

    name: str
    expected: str
    reported: str

    @property
    def label(self) -> str:
        """The name in words."""
        return _LABELS[self.name]


class Explanation(NamedTuple):
    """``outcome`` is ``same``, ``explained`` or ``unexplained``.

    ``recipe`` reproduces ``reported`` (``None`` when unexplained). ``same`` names the inputs proven equal,
    ``differences`` those proven different; ``tried`` counts digests compared.
    """

    outcome: str
    reported: LaunchDigest
    expected: LaunchDigest
    recipe: LaunchRecipe | None
    differences: tuple[Difference, ...]
    same: tuple[str, ...]
    tried: int

    def text(self) -> str:
        """One sentence for people."""
        if self.outcome == SAME:
            return "the reported digest is the expected one"
        if self.outcome == UNEXPLAINED:
            return (
                f"none of {self.tried} combinations gives the reported digest: "
                "the firmware, kernel, initrd or command line is one that is not known here"
            )
        equal = ", ".join(_LABELS[name] for name in self.same)
        differing = ", ".join(difference.label for difference in self.differences)
        plural = len(self.differences) > 1 or self.differences[0].name in _PLURAL
        return f"same {equal}; {differing} {'differ' if plural else 'differs'}"


class Input(NamedTuple):
    """One input of a launch digest: its name, both values as text; ``reported`` is ``None`` where it is not known."""

    name: str
    expected: str
    reported: str | None

    @property
    def label(self) -> str:
        """The name in words."""
        return _LABELS[self.name]


def inputs_of(
    expected: LaunchRecipe, found: LaunchRecipe | None, candidates: Sequence[LaunchRecipe] = ()
) -> tuple[Input, ...]:
    """Every input of ``expected`` beside that of ``found``, the recipe that gives the reported digest, if there is one.

    ``candidates`` lend the names of their files.
    """
    names = _Names((expected, *candidates))
    rows = _rows(expected, expected if found is None else found, names)
    return tuple(Input(name, ours, None if found is None else theirs) for name, ours, theirs in rows)


def explain(
    reported: LaunchDigest,
    reference: LaunchRecipe,
    candidates: Sequence[LaunchRecipe] = (),
    *,
    exhaustive: bool = True,
) -> Explanation:
    """Which inputs differ between ``reference`` and the launch that reported ``reported``.

    ``candidates`` are other recipes whose inputs may have been used. ``exhaustive`` also tries every CPU signature and
    SEV feature, which takes a second: not for comparing with many references. Raises as
    `ovmf.snp_launch.digest_from_recipe` does when one of the given recipes is wrong.
    """
    expected = digest_from_recipe(reference)
    search = Search(reported, reference, candidates)
    found = search.run(exhaustive=exhaustive)
    if found is None:
        return Explanation(UNEXPLAINED, reported, expected, None, (), (), search.tried)
    names = _Names((reference, *candidates))
    differences, same = _compare(reference, found, names)
    outcome = SAME if reported == expected else EXPLAINED
    return Explanation(outcome, reported, expected, found, differences, same, search.tried)


class _Names:
    """The files the given recipes name, by hash, so that a value can be shown with its path."""

    __slots__ = ("_paths",)

    def __init__(self, recipes: Sequence[LaunchRecipe]) -> None:
        self._paths = {(item.name, item.sha256): item.path for recipe in recipes for item in recipe.inputs}

    def show(self, name: str, digest: bytes | None) -> str:
        if digest is None:
            return "not measured"
        if (name, digest) in (("initrd", NO_INITRD), ("cmdline", NO_CMDLINE)):
            return "none"
        path = self._paths.get((name, digest.hex()), "")
        return f"sha256:{digest.hex()}" + (f" ({path})" if path else "")


def _compare(
    expected: LaunchRecipe, found: LaunchRecipe, names: _Names
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    same: list[str] = []
    differences: list[Difference] = []
    for name, ours, theirs in _rows(expected, found, names):
        if ours == theirs:
            same.append(name)
        else:
            differences.append(Difference(name, ours, theirs))
    return tuple(differences), tuple(same)


def _rows(expected: LaunchRecipe, found: LaunchRecipe, names: _Names) -> list[tuple[str, str, str]]:
    pair = (expected, found)

    def both(name: str, *values: str) -> tuple[str, str, str]:
        ours, theirs = values
        return name, ours, theirs

    rows = [
        both("firmware", *_firmware(expected, found, names)),
        both("vcpus", *(str(recipe.vcpus) for recipe in pair)),
    ]
    if vmm_named(found.vmm).fixed_rdx is None:
        rows.append(both("vcpu_sig", *(describe_signature(recipe.vcpu_sig) for recipe in pair)))
    rows.append(both("guest_features", *(f"0x{recipe.guest_features:x}" for recipe in pair)))
    rows.append(both("vmm", *(f"{recipe.vmm} ({vmm_named(recipe.vmm).words})" for recipe in pair)))
    measured = [recipe.kernel_sha256 is not None for recipe in pair]
    if measured[0] != measured[1]:
        rows.append(both("kernel_hashes", *("on" if on else "off" for on in measured)))
    elif measured[0]:
        for field in BOOT_FIELDS:
            name = field.removesuffix("_sha256")
            rows.append(both(name, *(names.show(name, getattr(recipe, field)) for recipe in pair)))
    return rows


def _firmware(expected: LaunchRecipe, found: LaunchRecipe, names: _Names) -> tuple[str, str]:
    ours, theirs = (names.show("firmware", recipe.firmware_sha256) for recipe in (expected, found))
    alike = all(getattr(expected, field) == getattr(found, field) for field in FIRMWARE_FIELDS)
    if ours == theirs and not alike:  # the file's hash is a label: a recipe can carry it with other contents
        theirs += ", but with other pages or metadata"
    return ours, theirs

"""What may have been launched instead: the plausible space `ovmf.search` goes through, nearest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, islice, product
from typing import Any, NamedTuple

from ovmf.kernel_hashes import NO_INITRD, cmdline_hash
from ovmf.vcpu import MODELS, cpu_signature, vcpu_signature
from ovmf.vmm import VMMS, vmm_named
from policy.reference import LaunchRecipe

FIRMWARE_FIELDS = ("firmware_sha256", "firmware_ld", "sections", "hash_table_gpa", "ap_eip")
BOOT_FIELDS = ("kernel_sha256", "initrd_sha256", "cmdline_sha256")
NO_CMDLINE = cmdline_hash(b"")

MOST_BOOTS = 4096
MOST_VCPUS = 512
_MOST_SETUPS = 256
_EPYC_FAMILIES = (0x17, 0x19, 0x1A)
_FEATURE_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15)
"""SEV_FEATURES defined so far; bit 0, SNP active, is always set."""


class Vcpus(NamedTuple):
    """A way to set up vCPUs, and the counts to try with it."""

    vcpu_sig: int
    guest_features: int
    vmm: str
    counts: frozenset[int]


def boots(recipes: Sequence[LaunchRecipe], most: int = MOST_BOOTS) -> Iterator[LaunchRecipe]:
    """The first recipe with other firmware and boot hashes: none changed, then one of them, then two, three, four."""
    return islice(_boots(recipes), most)


def _boots(recipes: Sequence[LaunchRecipe]) -> Iterator[LaunchRecipe]:
    reference = recipes[0]
    yield reference
    firmwares = _others(recipes, FIRMWARE_FIELDS)
    changes = {
        "firmware": firmwares,
        "kernel": _others(recipes, BOOT_FIELDS[:1]),
        "initrd": _others(recipes, BOOT_FIELDS[1:2], NO_INITRD),
        "cmdline": _others(recipes, BOOT_FIELDS[2:], NO_CMDLINE),
    }
    if reference.kernel_sha256 is None:
        yield from (reference._replace(**change) for change in firmwares)
        for base in _measured(recipes):
            yield base
            yield from (base._replace(**change) for change in firmwares)
        return
    off: dict[str, Any] = dict.fromkeys(BOOT_FIELDS)
    for count in range(1, len(changes) + 1):
        if count < 3:
            yield from (reference._replace(**off, **change) for change in (firmwares if count == 2 else ({},)))
        for names in combinations(changes, count):
            for picked in product(*(changes[name] for name in names)):
                yield reference._replace(**{key: value for change in picked for key, value in change.items()})


def _others(recipes: Sequence[LaunchRecipe], fields: tuple[str, ...], *more: bytes) -> tuple[dict[str, Any], ...]:
    """What the recipes have in ``fields``, without the first one's own value and without nothing."""
    found = dict.fromkeys(tuple(getattr(recipe, field) for field in fields) for recipe in recipes)
    found.update(dict.fromkeys((value,) for value in more))
    own = tuple(getattr(recipes[0], field) for field in fields)
    return tuple(dict(zip(fields, values, strict=True)) for values in found if values != own and values[0] is not None)


def _measured(recipes: Sequence[LaunchRecipe]) -> Iterator[LaunchRecipe]:
    """For a reference without measured kernel: all the others' kernels, with their initrds and command lines or
    none."""
    columns = []
    for field, nothing in zip(BOOT_FIELDS, (None, NO_INITRD, NO_CMDLINE), strict=True):
        values = [getattr(recipe, field) for recipe in recipes]
        columns.append(tuple(dict.fromkeys(value for value in (nothing, *values) if value is not None)))
    for triple in product(*columns):
        yield recipes[0]._replace(**dict(zip(BOOT_FIELDS, triple, strict=True)))


def given_vcpus(recipes: Sequence[LaunchRecipe]) -> tuple[Vcpus, ...]:
    """The recipes' own ways to set up vCPUs, mixed."""
    counts = frozenset(recipe.vcpus for recipe in recipes)
    return _vcpus(
        distinct(recipe.vmm for recipe in recipes),
        distinct(recipe.guest_features for recipe in recipes),
        distinct(recipe.vcpu_sig for recipe in recipes),
        counts,
    )


def known_vcpus(recipes: Sequence[LaunchRecipe]) -> tuple[Vcpus, ...]:
    """Every monitor, CPU model and count, with the features host kernels set by themselves."""
    counts = frozenset(recipe.vcpus for recipe in recipes) | frozenset(range(1, MOST_VCPUS + 1))
    return _vcpus(
        distinct((*(recipe.vmm for recipe in recipes), *VMMS)),
        distinct((*(recipe.guest_features for recipe in recipes), 0x1, 0x21)),
        distinct((*(recipe.vcpu_sig for recipe in recipes), *map(vcpu_signature, MODELS))),
        counts,
    )


def likely_vcpus(recipes: Sequence[LaunchRecipe], small: Iterable[int] = ()) -> tuple[Vcpus, ...]:
    """SNP active and up to two more features, every CPU model, under the expected monitor; ``small`` counts too."""
    reference = recipes[0]
    features = [1 | sum(1 << bit for bit in bits) for count in range(3) for bits in combinations(_FEATURE_BITS, count)]
    models = distinct((reference.vcpu_sig, *map(vcpu_signature, MODELS)))
    counts = frozenset((reference.vcpus, *small))
    return _vcpus((reference.vmm,), features, models, counts, len(features) * len(models))


def all_signatures(reference: LaunchRecipe) -> Iterator[Vcpus]:
    """Every signature an EPYC could have, as ``-cpu host`` passes it."""
    counts = frozenset((reference.vcpus, *range(1, 9)))
    if vmm_named(reference.vmm).fixed_rdx is None:
        for family, model, stepping in product(_EPYC_FAMILIES, range(256), range(16)):
            yield Vcpus(cpu_signature(family, model, stepping), reference.guest_features, reference.vmm, counts)


def all_features(reference: LaunchRecipe) -> Iterator[Vcpus]:
    """Every set of the SEV features defined so far."""
    counts = frozenset((reference.vcpus,))
    for choice in range(1 << len(_FEATURE_BITS)):
        features = 1 | sum(1 << bit for place, bit in enumerate(_FEATURE_BITS) if choice >> place & 1)
        yield Vcpus(reference.vcpu_sig, features, reference.vmm, counts)


def _vcpus(
    vmms: Sequence[str],
    features: Sequence[int],
    signatures: Sequence[int],
    counts: frozenset[int],
    most: int = _MOST_SETUPS,
) -> tuple[Vcpus, ...]:
    setups = [
        Vcpus(signature, feature, vmm, counts)
        for vmm, feature, signature in islice(product(vmms, features, signatures), 8 * most)
        # where the monitor does not pass the signature, the expected one stands for all
        if signature == signatures[0] or vmm_named(vmm).fixed_rdx is None
    ]

    def unlike(setup: Vcpus) -> int:
        pairs = ((setup.vmm, vmms[0]), (setup.guest_features, features[0]), (setup.vcpu_sig, signatures[0]))
        return sum(ours != theirs for ours, theirs in pairs)

    return tuple(sorted(setups, key=unlike)[:most])


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """Each value once, in order of appearance."""
    return tuple(dict.fromkeys(values))

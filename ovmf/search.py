"""Find a recipe that reproduces a reported launch digest.

Exact before near: the recipes as given; then their inputs mixed; then the alternatives that happen by themselves
(another vCPU count, CPU model, host kernel or SEV feature, an initrd or command line left out, boot hashes off); last,
every CPU signature and every SEV feature with all else as expected. Bounded: seconds at most on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

from ovmf.errors import KernelNotMeasurable, OvmfError
from ovmf.kernel_hashes import NO_INITRD, cmdline_hash
from ovmf.launch_context import VMSA, extend
from ovmf.snp_launch import (
    check_boot_hashes,
    digest_from_recipe,
    extend_vcpus,
    hashes_of,
    layout_of,
    state_before_vcpus,
    vcpu_contents,
)
from ovmf.vcpu import MODELS, cpu_signature, vcpu_signature
from ovmf.vmm import VMMS, Vmm, vmm_named
from policy.reference import LaunchRecipe
from policy.vocab import LaunchDigest

FIRMWARE_FIELDS = ("firmware_sha256", "firmware_ld", "sections", "hash_table_gpa", "ap_eip")
BOOT_FIELDS = ("kernel_sha256", "initrd_sha256", "cmdline_sha256")
NO_CMDLINE = cmdline_hash(b"")

_MOST_BOOTS = 256
_MOST_BOOTS_KNOWN = 32
_MOST_VCPUS = 512
_MOST_VCPUS_EXHAUSTIVE = 64
_EPYC_FAMILIES = (0x17, 0x19, 0x1A)


class Vcpus(NamedTuple):
    """A way to set up vCPUs, and the counts to try with it."""

    vcpu_sig: int
    guest_features: int
    vmm: str
    counts: frozenset[int]


class Search:
    """One search; ``tried`` counts the digests compared so far."""

    __slots__ = ("recipes", "reference", "reported", "tried")

    def __init__(self, reported: LaunchDigest, reference: LaunchRecipe, candidates: Sequence[LaunchRecipe]) -> None:
        self.reported = reported
        self.reference = reference
        self.recipes = (reference, *candidates)
        self.tried = 0

    def run(self, *, exhaustive: bool) -> LaunchRecipe | None:
        """A recipe that gives the reported digest, or ``None``. A given recipe that is itself malformed raises.

        ``exhaustive`` adds the last step, a second of one core.
        """
        for candidate in self.recipes:
            if self._gives_it(candidate):
                return candidate
        boots = tuple(self._boots())
        found = self._mixed(boots, _given_vcpus) or self._mixed(boots[:_MOST_BOOTS_KNOWN], _known_vcpus)
        if found is not None or not exhaustive:
            return found
        return self._exhaust(_all_signatures(self.reference)) or self._exhaust(_all_features(self.reference))

    def _gives_it(self, candidate: LaunchRecipe) -> bool:
        self.tried += 1
        try:
            return digest_from_recipe(candidate) == self.reported
        except KernelNotMeasurable:  # no launch: its other inputs are still worth mixing
            return False

    def _boots(self) -> Iterator[LaunchRecipe]:
        """The reference with every mix of firmware and boot hashes, fewest differences first."""
        firmwares = _distinct(tuple(getattr(recipe, name) for name in FIRMWARE_FIELDS) for recipe in self.recipes)
        kernels, initrds, cmdlines = (_distinct(getattr(r, name) for r in self.recipes) for name in BOOT_FIELDS)
        mixes = product(kernels, _distinct((*initrds, NO_INITRD)), _distinct((*cmdlines, NO_CMDLINE)))
        triples = [mix for mix in mixes if None not in mix]
        triples.append((None, None, None))
        expected = tuple(getattr(self.reference, name) for name in BOOT_FIELDS)

        def unlike(pair: tuple[object, tuple[object, ...]]) -> int:
            boot_hashes = zip(pair[1], expected, strict=True)
            return [pair[0] != firmwares[0], *(ours != theirs for ours, theirs in boot_hashes)].count(True)

        for firmware, triple in sorted(product(firmwares, triples), key=unlike)[:_MOST_BOOTS]:
            yield self.reference._replace(
                **dict(zip(FIRMWARE_FIELDS, firmware, strict=True)), **dict(zip(BOOT_FIELDS, triple, strict=True))
            )

    def _mixed(
        self, boots: Sequence[LaunchRecipe], choose: Callable[[Sequence[LaunchRecipe]], tuple[Vcpus, ...]]
    ) -> LaunchRecipe | None:
        choices = choose(self.recipes)
        for boot in boots:
            states: dict[tuple[int, bool], bytes | None] = {}
            for vcpu in choices:
                vmm = vmm_named(vcpu.vmm)
                if vmm.layout not in states:
                    states[vmm.layout] = _state(boot, vmm)
                state = states[vmm.layout]
                count = None if state is None else self._count(state, boot.ap_eip, vcpu)
                if count is not None:
                    return boot._replace(
                        vcpus=count, vcpu_sig=vcpu.vcpu_sig, guest_features=vcpu.guest_features, vmm=vcpu.vmm
                    )
        return None

    def _count(self, state: bytes, ap_eip: int, vcpu: Vcpus) -> int | None:
        """The vCPU count of ``vcpu.counts`` that gives the digest; each count's state extends the one before."""
        vmm = vmm_named(vcpu.vmm)
        first, other = vcpu_contents(vmm, ap_eip, vcpu.vcpu_sig, vcpu.guest_features)
        state = extend_vcpus(state, vmm, first, other, 1)
        for count in range(1, max(vcpu.counts) + 1):
            if count in vcpu.counts:
                self.tried += 1
                if state == self.reported:
                    return count
            state = extend(state, VMSA, vmm.vmsa_gpa, other)
        return None

    def _exhaust(self, choices: Iterable[Vcpus]) -> LaunchRecipe | None:
        """Every one of ``choices`` with all else as expected."""
        reference = self.reference
        state = _state(reference, vmm_named(reference.vmm))
        if state is None or reference.vcpus > _MOST_VCPUS_EXHAUSTIVE:
            return None
        for vcpu in choices:
            if self._count(state, reference.ap_eip, vcpu) is not None:
                return reference._replace(vcpu_sig=vcpu.vcpu_sig, guest_features=vcpu.guest_features)
        return None


def _state(boot: LaunchRecipe, vmm: Vmm) -> bytes | None:
    """GCTX.LD before the vCPUs, or ``None`` for a mix that can never start."""
    try:
        layout, hashes = layout_of(boot), hashes_of(boot)
        check_boot_hashes(layout, hashes)
    except OvmfError:
        return None
    return state_before_vcpus(boot.firmware_ld, layout, hashes, vmm)


def _given_vcpus(recipes: Sequence[LaunchRecipe]) -> tuple[Vcpus, ...]:
    counts = frozenset(recipe.vcpus for recipe in recipes)
    return _vcpus(
        _distinct(recipe.vmm for recipe in recipes),
        _distinct(recipe.guest_features for recipe in recipes),
        _distinct(recipe.vcpu_sig for recipe in recipes),
        counts,
    )


def _known_vcpus(recipes: Sequence[LaunchRecipe]) -> tuple[Vcpus, ...]:
    counts = frozenset(recipe.vcpus for recipe in recipes) | frozenset(range(1, _MOST_VCPUS + 1))
    return _vcpus(
        _distinct((*(recipe.vmm for recipe in recipes), *VMMS)),
        _distinct((*(recipe.guest_features for recipe in recipes), 0x1, 0x21)),
        _distinct((*(recipe.vcpu_sig for recipe in recipes), *map(vcpu_signature, MODELS))),
        counts,
    )


def _vcpus(
    vmms: Sequence[str], features: Sequence[int], signatures: Sequence[int], counts: frozenset[int]
) -> tuple[Vcpus, ...]:
    return tuple(
        Vcpus(signature, feature, vmm, counts)
        for vmm, feature, signature in product(vmms, features, signatures)
        # where the monitor does not pass the signature, the expected one stands for all
        if signature == signatures[0] or vmm_named(vmm).fixed_rdx is None
    )


def _all_signatures(reference: LaunchRecipe) -> Iterator[Vcpus]:
    """Every signature an EPYC could have, as ``-cpu host`` passes it."""
    counts = frozenset((reference.vcpus,))
    if vmm_named(reference.vmm).fixed_rdx is None:
        for family, model, stepping in product(_EPYC_FAMILIES, range(256), range(16)):
            yield Vcpus(cpu_signature(family, model, stepping), reference.guest_features, reference.vmm, counts)


def _all_features(reference: LaunchRecipe) -> Iterator[Vcpus]:
    """Every set of the SEV features defined so far; bit 0, SNP active, is always in it."""
    counts = frozenset((reference.vcpus,))
    for features in range(1, 1 << 16, 2):
        yield Vcpus(reference.vcpu_sig, features, reference.vmm, counts)


def _distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))

"""Find a recipe that reproduces a reported launch digest.

Exact before near: the recipes as given; the expected launch with another set-up of vCPUs; then other firmware,
kernel, initrd and command line, mixed, with the set-ups that were given; then one such change with every known set-up
(so that each single and each double change that happens by itself is tried); last, every CPU signature and every SEV
feature with all else as expected. What candidates share is hashed once, and the work is bounded: about two seconds of
one core, plus 20 µs for each recipe given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha384

from ovmf.alternatives import (
    Vcpus,
    all_features,
    all_signatures,
    boots,
    given_vcpus,
    known_vcpus,
    likely_vcpus,
)
from ovmf.errors import KernelNotMeasurable, OvmfError
from ovmf.launch_context import VMSA, extend, tail
from ovmf.vmm import vmm_named
from ovmf.vmsa import BSP_EIP
from ovmf.warm import DigestCache
from policy.reference import LaunchRecipe
from policy.vocab import LaunchDigest

_SINGLE_CHANGES = 24
_WORK = 1_000_000
"""Page hashes a search may cost (each about a microsecond) after the given recipes."""
_WORK_MIXING = 300_000
_VMSA_COST = 20
_MOST_VCPUS_EXHAUSTIVE = 64


class Search:
    """One search; ``tried`` counts the digests compared so far."""

    __slots__ = ("_cache", "_work", "recipes", "reference", "reported", "tried")

    def __init__(self, reported: LaunchDigest, reference: LaunchRecipe, candidates: Sequence[LaunchRecipe]) -> None:
        self.reported = reported
        self.reference = reference
        self.recipes = (reference, *candidates)
        self.tried = 0
        self._cache = DigestCache()
        self._work = 0

    def run(self, *, exhaustive: bool) -> LaunchRecipe | None:
        """A recipe that gives the reported digest, or ``None``. A given recipe that is itself malformed raises.

        ``exhaustive`` adds the last step, a second of one core.
        """
        for candidate in self.recipes:
            if self._gives_it(candidate):
                return candidate
        known = known_vcpus(self.recipes)
        near = tuple(boots(self.recipes, _SINGLE_CHANGES))
        found = (
            self._mixed((self.reference,), known, _WORK)
            or self._mixed(boots(self.recipes), given_vcpus(self.recipes), _WORK_MIXING)
            or self._mixed(near[1:], known, _WORK)
        )
        if found is not None or not exhaustive:
            return found
        return (
            self._mixed((self.reference,), likely_vcpus(self.recipes, small=range(1, 17)), _WORK)
            or self._mixed(near[1:], likely_vcpus(self.recipes), _WORK)
            or self._exhaust(all_signatures(self.reference))
            or self._exhaust(all_features(self.reference))
        )

    def _gives_it(self, candidate: LaunchRecipe) -> bool:
        self.tried += 1
        try:
            return self._cache.digest(candidate) == self.reported
        except KernelNotMeasurable:  # no launch: its other inputs are still worth mixing
            return False

    def _mixed(self, launches: Iterable[LaunchRecipe], setups: Sequence[Vcpus], work: int) -> LaunchRecipe | None:
        """Every launch with every set-up, until that has cost ``work``."""
        for boot in launches:
            states: dict[tuple[int, bool], bytes | None] = {}
            for setup in setups:
                if self._work > work:
                    return None
                vmm = vmm_named(setup.vmm)
                if vmm.layout not in states:
                    states[vmm.layout] = self._state(boot, setup.vmm)
                state = states[vmm.layout]
                count = None if state is None else self._count(state, boot.ap_eip, setup)
                if count is not None:
                    return boot._replace(
                        vcpus=count, vcpu_sig=setup.vcpu_sig, guest_features=setup.guest_features, vmm=setup.vmm
                    )
        return None

    def _state(self, boot: LaunchRecipe, vmm: str) -> bytes | None:
        """GCTX.LD before the vCPUs, or ``None`` for a mix that can never start."""
        self._work += _VMSA_COST
        try:
            return self._cache.state_before_vcpus(boot, vmm_named(vmm))
        except OvmfError:
            return None

    def _count(self, state: bytes, ap_eip: int, setup: Vcpus) -> int | None:
        """The vCPU count of ``setup.counts`` that gives the digest; each count's state extends the one before."""
        vmm = vmm_named(setup.vmm)
        first, other = self._cache.vcpu_contents(vmm, ap_eip, setup.vcpu_sig, setup.guest_features)
        most, gpa, reported, counts = max(setup.counts), vmm.vmsa_gpa, self.reported, setup.counts
        self.tried += len(counts)
        self._work += most
        state = extend(state, VMSA, gpa, first)
        rest = tail(VMSA, gpa, other)
        for count in range(1, most + 1):
            if state == reported and count in counts:
                return count
            state = sha384(state + rest).digest()
        return None

    def _exhaust(self, setups: Iterable[Vcpus]) -> LaunchRecipe | None:
        """Every one of ``setups`` with all else as expected; the VMSAs are not worth keeping."""
        reference = self.reference
        vmm = vmm_named(reference.vmm)
        state = self._state(reference, reference.vmm)
        if state is None or reference.vcpus > _MOST_VCPUS_EXHAUSTIVE:
            return None
        boot_cpu, others = self._cache.template(vmm, BSP_EIP), self._cache.template(vmm, reference.ap_eip)
        for setup in setups:
            signature, features, counts = setup.vcpu_sig, setup.guest_features, setup.counts
            most = max(counts)
            self.tried += len(counts)
            reached = extend(state, VMSA, vmm.vmsa_gpa, boot_cpu.contents(signature, features))
            rest = tail(VMSA, vmm.vmsa_gpa, others.contents(signature, features)) if most > 1 else b""
            for count in range(1, most + 1):
                if reached == self.reported and count in counts:
                    return reference._replace(vcpus=count, vcpu_sig=signature, guest_features=features)
                if count < most:
                    reached = sha384(reached + rest).digest()
        return None

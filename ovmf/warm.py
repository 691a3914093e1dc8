"""Launch digests again and again: what many of them share is computed once.

The firmware's pages are hashed once per image (keyed by its SHA-256), its metadata sections once per image and kind
of VMM up to the boot hashes, a VMSA once per CPU, so that what is left of a digest is a handful of short hashes. For
a service that checks many references, and for `ovmf.search`. Nothing is kept that does not follow from the content it
is kept under.
"""

from __future__ import annotations

from hashlib import sha256, sha384
from struct import Struct
from typing import TypeVar

from ovmf.firmware import Firmware, Layout
from ovmf.kernel_hashes import KernelHashes
from ovmf.snp_launch import (
    check_boot_hashes,
    check_vcpus,
    extend_section,
    extend_vcpus,
    hashes_of,
    layout_of,
    measured_order,
)
from ovmf.snp_metadata import KERNEL_HASHES, SectionTuple
from ovmf.vmm import Vmm, vmm_named
from ovmf.vmsa import BSP_EIP, vmsa_page
from policy.fixed import LaunchDigest
from policy.reference import LaunchRecipe

_MOST = 4096
"""Entries kept of each kind; beyond that a kind starts anew."""
_MOST_FIRMWARE = 16

_U64 = Struct("<Q").pack_into
_SPLIT = 0x300
"""The last multiple of SHA-384's block before the first register that varies, RDX at 0x310."""

Key = TypeVar("Key")
Value = TypeVar("Value")
_Firmware = tuple[bytes, tuple[SectionTuple, ...], int | None, int]
_Prefix = tuple[bytes, tuple[SectionTuple, ...]]


class DigestCache:
    """Digests of recipes that share firmware, boot files or CPUs. Use one per thread, or one behind a lock."""

    __slots__ = ("_contents", "_firmware", "_layouts", "_prefixes", "_templates")

    def __init__(self) -> None:
        self._firmware: dict[bytes, Firmware] = {}
        self._layouts: dict[_Firmware, Layout] = {}
        self._prefixes: dict[tuple[_Firmware, int, bool], _Prefix] = {}
        self._contents: dict[tuple[str, int, int, int], tuple[bytes, bytes]] = {}
        self._templates: dict[tuple[str, int], VmsaTemplate] = {}

    def firmware(self, data: bytes) -> Firmware:
        """A parsed image, as `ovmf.firmware.Firmware.from_bytes`, which is called once per content."""
        name = sha256(data).digest()
        found = self._firmware.get(name)
        if found is None:
            if len(self._firmware) >= _MOST_FIRMWARE:
                self._firmware.clear()
            found = self._firmware[name] = Firmware.from_bytes(data)
        return found

    def digest(self, recipe: LaunchRecipe) -> LaunchDigest:
        """What `ovmf.snp_launch.digest_from_recipe` gives, with the same errors."""
        monitor = vmm_named(recipe.vmm)
        check_vcpus(recipe.vcpus)
        state = self.state_before_vcpus(recipe, monitor)
        first, other = self.vcpu_contents(monitor, recipe.ap_eip, recipe.vcpu_sig, recipe.guest_features)
        return LaunchDigest(extend_vcpus(state, monitor, first, other, recipe.vcpus))

    def state_before_vcpus(self, recipe: LaunchRecipe, monitor: Vmm) -> bytes:
        """GCTX.LD, 48 bytes, after the firmware and its sections. Checks that part of the recipe."""
        name = (recipe.firmware_ld, recipe.sections, recipe.hash_table_gpa, recipe.ap_eip)
        layout = self._layouts.get(name)
        if layout is None:
            layout = _keep(self._layouts, name, layout_of(recipe))
        hashes = hashes_of(recipe)
        check_boot_hashes(layout, hashes)
        key = (name, *monitor.layout)
        prefix = self._prefixes.get(key)
        if prefix is None:
            prefix = _keep(self._prefixes, key, _before_hashes(recipe.firmware_ld, layout, monitor))
        state, rest = prefix
        for section in rest:
            state = extend_section(state, section, layout, hashes, monitor)
        return state

    def vcpu_contents(self, monitor: Vmm, ap_eip: int, vcpu_sig: int, guest_features: int) -> tuple[bytes, bytes]:
        """SHA-384 of the boot processor's VMSA and of the others', as `ovmf.snp_launch.vcpu_contents`."""
        key = (monitor.name, ap_eip, vcpu_sig, guest_features)
        found = self._contents.get(key)
        if found is None:
            first = self.template(monitor, BSP_EIP).contents(vcpu_sig, guest_features)
            other = self.template(monitor, ap_eip).contents(vcpu_sig, guest_features)
            found = _keep(self._contents, key, (first, other))
        return found

    def template(self, monitor: Vmm, eip: int) -> VmsaTemplate:
        """VMSA pages of one monitor and start address."""
        key = (monitor.name, eip)
        return self._templates.get(key) or _keep(self._templates, key, VmsaTemplate(monitor, eip))


class VmsaTemplate:
    """VMSA pages that differ in CPU signature and SEV features only, hashed from the first byte that varies."""

    __slots__ = ("_eip", "_head", "_monitor", "_tail")

    def __init__(self, monitor: Vmm, eip: int) -> None:
        page = vmsa_page(monitor, eip, 0, 0)
        self._monitor, self._eip = monitor, eip
        self._head = sha384(page[:_SPLIT])
        self._tail = bytearray(page[_SPLIT:])

    def contents(self, vcpu_sig: int, guest_features: int) -> bytes:
        """SHA-384 of the page, 48 bytes."""
        if not (0 <= vcpu_sig < 1 << 32 and 0 <= guest_features < 1 << 64):
            vmsa_page(self._monitor, self._eip, vcpu_sig, guest_features)  # raises
        tail = self._tail
        if self._monitor.fixed_rdx is None:
            _U64(tail, 0x310 - _SPLIT, vcpu_sig)
        _U64(tail, 0x3B0 - _SPLIT, guest_features)
        digest = self._head.copy()
        digest.update(tail)
        return digest.digest()


def _before_hashes(firmware_ld: bytes, layout: Layout, monitor: Vmm) -> _Prefix:
    """GCTX.LD before the section of boot hashes, and the sections from there on."""
    order = measured_order(layout, monitor)
    state = firmware_ld
    no_hashes: KernelHashes | None = None
    for index, section in enumerate(order):
        if section[2] == KERNEL_HASHES:
            return state, order[index:]
        state = extend_section(state, section, layout, no_hashes, monitor)
    return state, ()


def _keep(cache: dict[Key, Value], key: Key, value: Value) -> Value:
    if len(cache) >= _MOST:
        cache.clear()
    cache[key] = value
    return value

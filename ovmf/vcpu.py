"""CPUID signatures (leaf 1 EAX) of QEMU's AMD CPU models: the value in RDX of every measured vCPU.

The physical processor does not enter the digest, the model named to QEMU does. Sources: QEMU ``builtin_x86_defs``
(11.1), AMD publication 25481, CPUID Fn0000_0001_EAX.
"""

from __future__ import annotations

from ovmf.errors import LaunchInvalid, UnknownCpuModel

_FAMILIES = {
    "EPYC": (23, 1, 2),
    "EPYC-Rome": (23, 49, 0),
    "EPYC-Milan": (25, 1, 1),
    "EPYC-Genoa": (25, 17, 0),
    "EPYC-Turin": (26, 0, 0),
}
MODELS = tuple(_FAMILIES)
"""Base names; each also exists with a version, as in ``EPYC-Milan-v2``."""


def cpu_signature(family: int, model: int, stepping: int) -> int:
    """CPUID 1 EAX of a combined family (15..270), combined model (0..255) and stepping (0..15)."""
    if not (15 <= family <= 270 and 0 <= model <= 255 and 0 <= stepping <= 15):
        raise LaunchInvalid(f"CPU: family {family}, model {model}, stepping {stepping} is out of range")
    return (family - 15) << 20 | (model >> 4) << 16 | 0xF << 8 | (model & 0xF) << 4 | stepping


def vcpu_signature(model: str) -> int:
    """The signature of a QEMU CPU model, with or without its version suffix.

    Every version of a model has the signature of its base, so versions newer than this table are known too.
    """
    base, _, version = model.rpartition("-v")
    if not (base and version.isascii() and version.isdigit()):
        base = model
    if base == "EPYC-IBPB":
        base = "EPYC"
    numbers = _FAMILIES.get(base)
    if numbers is None:
        hint = f"known: {', '.join(MODELS)}, each with or without -vN"
        if model in ("host", "max"):
            hint = "its signature is the processor's own: give it with --vcpu-sig (CPUID 1 EAX)"
        raise UnknownCpuModel(f"CPU model {model[:60]!r}: no CPUID signature known", hint=hint)
    return cpu_signature(*numbers)


def describe_signature(signature: int) -> str:
    """``0xa00f11 (EPYC-Milan)`` or, for a signature no model has, family, model and stepping in decimal."""
    for name, numbers in _FAMILIES.items():
        if cpu_signature(*numbers) == signature:
            return f"0x{signature:x} ({name})"
    family = (signature >> 8 & 0xF) + (signature >> 20 & 0xFF)
    model = signature >> 12 & 0xF0 | signature >> 4 & 0xF
    return f"0x{signature:x} (family {family} model {model} stepping {signature & 0xF})"

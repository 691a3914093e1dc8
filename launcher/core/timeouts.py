"""How long a boot may take. Not a constant: accepting memory takes time per GiB, emulation multiplies everything."""

from __future__ import annotations

from policy.named import NamedTuple

_GIB = 1 << 30


class Budget(NamedTuple):
    """Seconds from QEMU's start to the agent's first word, and from there to the service's answer."""

    boot: float
    attest: float


def budget(memory: int, vcpus: int, *, accel: str, eager_memory: bool, td: bool = False) -> Budget:
    """``memory`` in bytes. ``eager_memory``: the guest accepts all its memory before it does anything else (SEV-SNP
    with a firmware that is not known to be lazy), page by page in 4 KiB. ``td``: bringing up a TD's vCPUs takes time by
    the square of their number; reported were 50 s for 64, and 575 to 680 s for 248.
    """
    gib = memory / _GIB
    boot = 30 + gib * (1.0 if eager_memory else 0.05) + 0.5 * vcpus + (0.01 * vcpus * vcpus if td else 0.0)
    factor = 4 if accel == "tcg" else 1
    return Budget(round(boot * factor, 1), 60.0 * factor)

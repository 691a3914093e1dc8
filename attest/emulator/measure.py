"""What the emulated chip measures, by itself, from the very bytes QEMU is given: it believes no digest it is told."""

from __future__ import annotations

from ovmf.kernel_hashes import parse_hash_table
from ovmf.snp_launch import Firmware, snp_launch_digest
from policy.vocab import LaunchDigest

GUEST_FEATURES = 1  # SEV_FEATURES as a current KVM sets them: SNPActive and nothing else


def launch_digest(firmware: bytes, hash_table: bytes | None, *, vcpus: int, vcpu_sig: int) -> LaunchDigest:
    """The launch digest of ``firmware`` with the SEV hash table ``hash_table`` in its page (``None``: no kernel given).

    Raises CvmError when either does not parse.
    """
    hashes = parse_hash_table(hash_table) if hash_table is not None else None
    return snp_launch_digest(
        Firmware.from_bytes(firmware), vcpus=vcpus, vcpu_sig=vcpu_sig, guest_features=GUEST_FEATURES, hashes=hashes
    )

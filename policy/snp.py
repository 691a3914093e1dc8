"""AMD SEV-SNP words: guest policy, platform information, key information, TCB version.

Source: AMD, *SEV Secure Nested Paging Firmware ABI Specification* (document 56860), revision 1.58, tables "Guest
Policy", "ATTESTATION_REPORT Structure", "TCB_VERSION". Integers are little-endian on the wire. Undefined bits are
kept in the integer; whether they are tolerated is the parser's and the policy's decision, not this module's.
"""

from __future__ import annotations

from dataclasses import dataclass

from policy.bits import Bits
from policy.errors import MalformedInput
from policy.vocab import SnpProduct, Word


class SigningKey(Word):
    """Who signed a report (KEY_INFO bits 4:2)."""

    VCEK = 0
    VLEK = 1
    NONE = 7


class GuestPolicy(Bits):
    """The 64-bit launch field POLICY, chosen by the host, enforced by the firmware, echoed in every report."""

    RESERVED_ONE = 17
    KNOWN = (1 << 26) - 1

    @property
    def abi_minor(self) -> int:
        """Minimum firmware ABI, minor (bits 7:0)."""
        return self & 0xFF

    @property
    def abi_major(self) -> int:
        """Minimum firmware ABI, major (bits 15:8)."""
        return self >> 8 & 0xFF

    @property
    def smt(self) -> bool:
        """Permission: simultaneous multi-threading may be on."""
        return self.bit(16)

    @property
    def migrate_ma(self) -> bool:
        """Permission: a migration agent may be associated."""
        return self.bit(18)

    @property
    def debug(self) -> bool:
        """Permission: the host may decrypt guest memory."""
        return self.bit(19)

    @property
    def single_socket(self) -> bool:
        """Demand: the guest runs on one socket only."""
        return self.bit(20)

    @property
    def cxl_allow(self) -> bool:
        """Permission: CXL memory may be used."""
        return self.bit(21)

    @property
    def mem_aes_256_xts(self) -> bool:
        """Demand: memory is encrypted with AES-256-XTS."""
        return self.bit(22)

    @property
    def rapl_dis(self) -> bool:
        """Demand: running average power limit is off (power side channel)."""
        return self.bit(23)

    @property
    def ciphertext_hiding(self) -> bool:
        """Demand: the host cannot read ciphertext of guest memory."""
        return self.bit(24)

    @property
    def page_swap_disable(self) -> bool:
        """Demand: the host may not move or swap guest pages."""
        return self.bit(25)


class PlatformInfo(Bits):
    """PLATFORM_INFO: what the firmware says about the machine."""

    KNOWN = 0xFF

    @property
    def smt_en(self) -> bool:
        """Simultaneous multi-threading is on."""
        return self.bit(0)

    @property
    def tsme_en(self) -> bool:
        """Transparent memory encryption is on."""
        return self.bit(1)

    @property
    def ecc_en(self) -> bool:
        """Memory uses error correction."""
        return self.bit(2)

    @property
    def rapl_dis(self) -> bool:
        """Running average power limit is off."""
        return self.bit(3)

    @property
    def ciphertext_hiding(self) -> bool:
        """Ciphertext hiding for DRAM is on."""
        return self.bit(4)

    @property
    def alias_check_complete(self) -> bool:
        """Memory was checked for aliases since the last reset and none was found (the answer to BadRAM)."""
        return self.bit(5)

    @property
    def iommu_write_safe(self) -> bool:
        """Set by recent firmware; the name is from one source only."""
        return self.bit(6)

    @property
    def tio_en(self) -> bool:
        """SEV-TIO (trusted devices) is on."""
        return self.bit(7)


class KeyInfo(Bits):
    """The 32-bit field at 0x48: who signed, and what was masked."""

    @property
    def author_key_en(self) -> bool:
        """AUTHOR_KEY_DIGEST is meaningful."""
        return self.bit(0)

    @property
    def mask_chip_key(self) -> bool:
        """The host masked the chip's identity and key."""
        return self.bit(1)

    @property
    def signing_key(self) -> SigningKey:
        """Bits 4:2; values 2 to 6 are reserved and refused."""
        value = self >> 2 & 7
        try:
            return SigningKey(value)
        except ValueError:
            raise MalformedInput(
                f"key info: signing key {value} is reserved, want 0 (VCEK), 1 (VLEK) or 7 (none)"
            ) from None


# Byte index of each part. Milan and Genoa (with Bergamo and Siena) share one layout, Turin has another.
_LAYOUT = {
    False: {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7},
    True: {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7},
}


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """Security version numbers of the firmware parts, each 0 to 255; ``fmc`` only on Turin.

    TCB versions are compared part by part, never as one integer, and only within one layout.
    """

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def from_bytes(cls, raw: bytes, product: SnpProduct) -> TcbVersion:
        """From 8 bytes as they stand in a report; reserved bytes must be zero."""
        layout = _LAYOUT[product is SnpProduct.TURIN]
        if len(raw) != 8:
            raise MalformedInput(f"tcb version: got {len(raw)} bytes, want 8")
        reserved = [raw[index] for index in range(8) if index not in layout.values()]
        if any(reserved):
            raise MalformedInput(f"tcb version: reserved bytes must be zero for {product.value}, got {raw.hex()}")
        return cls(**{part: raw[index] for part, index in layout.items()})

    def to_bytes(self) -> bytes:
        """The 8 bytes of a report."""
        raw = bytearray(8)
        for part, index in _LAYOUT[self.fmc is not None].items():
            raw[index] = getattr(self, part)
        return bytes(raw)

    def parts(self) -> dict[str, int]:
        """Parts by name in a fixed order; ``fmc`` first where there is one."""
        first = {} if self.fmc is None else {"fmc": self.fmc}
        return first | {
            "bootloader": self.bootloader, "tee": self.tee, "snp": self.snp, "microcode": self.microcode
        }  # fmt: skip

    def parts_below(self, minimum: TcbVersion) -> tuple[str, ...]:
        """Names of the parts in which ``self`` is lower than ``minimum``.

        A minimum with ``fmc`` asks for a Turin layout: against another layout ``fmc`` counts as below.
        """
        return tuple(name for name, want in minimum.parts().items() if self.parts().get(name, -1) < want)

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.parts().items())

"""Words every package shares. Values, not behaviour; light to import."""

from __future__ import annotations

from enum import Enum

from policy.errors import MalformedInput
from policy.fixed import LaunchDigest, Nonce

__all__ = ["LaunchDigest", "Nonce", "Platform", "ResourcePath", "SnpProduct", "Word"]


class Word(Enum):
    """An enumeration of which members are keys of tables. Each is there once, so it is hashed by what it is: the hash
    of :class:`Enum` is a Python function, which every look-up would call.
    """

    __hash__ = object.__hash__


class Platform(Word):
    """What runs a VM; the values are what an operator writes in ``platform = "…"``.

    The two SGX words name enclaves, whose quotes the verifier can judge; nothing launches them.
    """

    SEV_SNP = "sev-snp"
    TDX = "tdx"
    EMULATED_SNP = "emulated-snp"
    EMULATED_TDX = "emulated-tdx"
    SGX = "sgx"
    EMULATED_SGX = "emulated-sgx"
    NONE = "none"


class SnpProduct(Word):
    """AMD product line, as it stands in certificate names and KDS paths (Bergamo and Siena belong to Genoa)."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


_SEGMENT = r"[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*"


class ResourcePath(str):
    """``repository/type/tag`` of a secret, as in ``kbs:///default/web-1/root``.

    Each segment begins with a letter, digit, ``_`` or ``-`` and has at most 64 characters, so a path can never climb
    out of a folder. Source: Confidential Containers KBS, resource path rules.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> ResourcePath:
        """Accepts ``a/b/c`` and ``kbs:///a/b/c``."""
        import re  # a launch without secrets does without

        path = text.removeprefix("kbs:///")
        parts = path.split("/")
        if len(parts) != 3 or not all(len(part) <= 64 and re.fullmatch(_SEGMENT, part) for part in parts):
            raise MalformedInput(
                f"resource {text[:200]!r}: want repository/type/tag of letters, digits, '_', '-', '.' (no leading dot)"
            )
        return cls(path)

    @property
    def parts(self) -> tuple[str, str, str]:
        """Repository, type, tag."""
        repository, kind, tag = self.split("/")
        return repository, kind, tag

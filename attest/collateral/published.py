"""AMD's published authorities, shipped with the program. Convenience, not trust: roots are pinned by key elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from attest.endorsement.pool import EndorsementSet
from attest.evidence.collateral_file import read_collateral_file

PRODUCT_FILES = ("milan.pem", "genoa.pem", "turin.pem")


@cache
def published_authorities() -> EndorsementSet:
    """ARK, ASK and ASVK of every supported product (nine certificates, no leaf, no CRL)."""
    pool = EndorsementSet()
    for name in PRODUCT_FILES:
        found = read_collateral_file(files("attest.collateral").joinpath("amd", name).read_bytes())
        pool += EndorsementSet.of(found.certificates)
    return pool

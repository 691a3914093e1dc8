"""A decision as AR4SI claims (draft-ietf-rats-ar4si): 2 affirming, 96 and above contraindicated, 0 nothing claimed.

The worst applicable value counts. Emulated hardware is never affirmed as genuine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from policy.claims import SgxClaims, SnpClaims, TeeClaims
from policy.document import PolicyDocument

_Names = Callable[[str], bool]


def _any(*names: str) -> _Names:
    """Ids that are one of ``names`` or, where a name ends in ``.``, begin with it."""
    whole, prefixes = frozenset(names), tuple(name for name in names if name.endswith("."))
    return lambda name: name in whole or (bool(prefixes) and name.startswith(prefixes))


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Which checks speak of which AR4SI claim; whatever is in none of the four speaks of the configuration.

    Compared by identity: there is one for each kind of evidence.
    """

    hardware: _Names
    firmware: _Names
    identity: _Names
    executables: _Names
    debug: str


_SNP = _Kind(
    hardware=_any("trust.root", "trust.table", "snp.product", "snp.cpuid", "snp.signing-key", "snp.revocation"),
    firmware=_any("snp.tcb.", "snp.firmware.", "snp.mitigations.", "snp.platform.alias-check", "snp.platform.ecc"),
    identity=_any(
        "snp.chip-id", "snp.csp-id", "snp.report-id", "snp.host-data", "snp.id-key-digest", "snp.author-key-digest"
    ),
    executables=_any("measurement", "snp.guest-svn", "snp.family-id", "snp.image-id"),
    debug="snp.policy.debug",
)


def _intel(table: str, identity: tuple[str, ...], executables: tuple[str, ...], debug: str) -> _Kind:
    platform = f"{table}.platform."
    return _Kind(
        hardware=_any(
            "trust.root", "trust.table", f"{table}.revocation", f"{platform}fmspc", f"{platform}ca",
            f"{platform}sgx-type", f"{platform}pceid",
        ),
        firmware=_any(
            f"{table}.tcb.", f"{platform}components", f"{platform}pcesvn", f"{table}.mrseam", f"{table}.mrsignerseam",
            f"{table}.seamattributes", f"{table}.tee-tcb-svn", f"{table}.tee-tcb-svn2",
        ),
        identity=_any(f"{platform}ppid", f"{platform}piid", *identity),
        executables=_any(*executables),
        debug=debug,
    )  # fmt: skip


_TDX = _intel(
    "tdx", ("tdx.mrconfigid", "tdx.mrowner", "tdx.mrownerconfig", "tdx.mrservicetd", "tdx.extended."),
    ("measurement", "tdx.rtmr0", "tdx.rtmr1", "tdx.rtmr2", "tdx.rtmr3", "tdx.eventlog."), "tdx.attributes.debug",
)  # fmt: skip
_SGX = _intel("sgx", ("sgx.configid",), ("sgx.identity",), "sgx.attributes.debug")


def trust_vector(failed: frozenset[str], claims: TeeClaims, document: PolicyDocument) -> Mapping[str, int]:
    """The vector for the ids of ``failed`` checks, for reading only."""
    kind = _SNP if isinstance(claims, SnpClaims) else _SGX if isinstance(claims, SgxClaims) else _TDX
    measured = isinstance(claims, SgxClaims) or document.measurement != "any"
    return _vector(kind, failed, measured, _machines_listed(claims, document), _debug(claims), claims.emulated)


# Which checks fail together repeats from guest to guest; mostly none do.
@lru_cache(maxsize=256)
def _vector(
    kind: _Kind, failed: frozenset[str], measured: bool, machines_listed: bool, debug: bool, emulated: bool
) -> Mapping[str, int]:
    hardware, firmware, identity, executables = (
        {name for name in failed if speaks(name)}
        for speaks in (kind.hardware, kind.firmware, kind.identity, kind.executables)
    )
    rest = failed - hardware - firmware - identity - executables
    opaque = 0 if debug or emulated else 2
    unrecognized = failed & {"measurement", "sgx.identity"}
    return MappingProxyType({
        "instance-identity": 96 if identity else 2 if machines_listed else 0,
        "configuration": 96 if rest else 2,
        "executables": 33 if unrecognized else 96 if executables else 3 if measured else 0,
        "file-system": 0,
        "hardware": 97 if hardware else 96 if firmware else 0 if emulated else 2,
        "runtime-opaque": 96 if kind.debug in failed else opaque,
        "storage-opaque": 0,
        "sourced-data": 0,
    })  # fmt: skip


def _debug(claims: TeeClaims) -> bool:
    if isinstance(claims, SnpClaims):
        return bool(claims.policy.debug)
    return claims.attributes.debug if isinstance(claims, SgxClaims) else claims.td_attributes.debug


def _machines_listed(claims: TeeClaims, document: PolicyDocument) -> bool:
    """Whether the policy names single machines, so that passing says which one this is."""
    if isinstance(claims, SnpClaims):
        return document.snp is not None and bool(document.snp.chip_ids)
    rules = document.sgx if isinstance(claims, SgxClaims) else document.tdx
    return rules is not None and bool(rules.platform.ppids or rules.platform.piids)

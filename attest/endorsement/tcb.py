"""How current is a platform? Intel's TCB evaluation: platform, TDX module, quoting enclave, and their convergence.

    platform   the best level all of whose SVNs the platform reaches: sixteen SGX components, PCESVN, and for TDX the
               sixteen of TEE_TCB_SVN (from the third on where the module has an identity of its own)
    module     (TDX, module version above 0) the best level of `TDX_<version>` that the module's SVN reaches
    QE         the best level of the QE identity that the QE report's ISVSVN reaches
    converged  a module or QE that is OutOfDate makes the whole out of date; Revoked anywhere makes it Revoked
    relaunch   (TD report 1.5) launched out of date, running on a module that is current: TDRelaunchAdvised

SVNs are compared one by one, never as one number; levels are sorted by the parser. No level reached is an error, never
a status. Source: Intel, *SGX/TDX DCAP Quote Verification Library*, ``TcbStatus`` checks and ``checkForRelaunch`` (DCAP
1.23); Intel PCS API v4, section "Get TCB Info", "TCB level comparison".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from attest.endorsement.errors import VerificationFailed
from attest.evidence.intel_json import IsvLevel, QeIdentity, TcbInfo, TcbLevel, TdxModule
from attest.evidence.sgx_extension import SgxExtension
from policy.tdx import TcbStatus

STEP = "tcb"
_OUT_OF_DATE = {
    TcbStatus.UP_TO_DATE: TcbStatus.OUT_OF_DATE,
    TcbStatus.SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE,
    TcbStatus.CONFIGURATION_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
    TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED: TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_CURRENT = frozenset(_OUT_OF_DATE)
_CONFIGURATION_NEEDED = frozenset((
    TcbStatus.CONFIGURATION_NEEDED, TcbStatus.CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED,
))  # fmt: skip


class TcbResult(NamedTuple):
    """``status`` is the converged one; the rest as in :class:`policy.claims.TcbClaims`."""

    status: TcbStatus
    platform: TcbStatus
    module: TcbStatus | None
    qe: TcbStatus
    running: TcbStatus | None
    date: datetime
    behind_since: datetime | None
    advisories: tuple[str, ...]


class _Reached(NamedTuple):
    """One evaluation of platform and module."""

    platform: TcbLevel
    module: IsvLevel | None


def module_of(info: TcbInfo, tee_tcb_svn: bytes) -> TdxModule:
    """What the TDX module of this version must be. Raises :class:`VerificationFailed` (``module``).

    Version 0 (byte 1 of TEE_TCB_SVN) is described by ``tdxModule``, any other by the identity ``TDX_<version, hex>``.
    """
    version = tee_tcb_svn[1]
    if version == 0:
        if info.module is None:
            raise VerificationFailed("module", "TCB info: no tdxModule")
        return info.module
    wanted = f"TDX_{version:02X}"
    for module in info.modules:
        if module.id == wanted:
            return module
    known = ", ".join(module.id for module in info.modules) or "none"
    raise VerificationFailed("module", f"TCB info: no TDX module identity {wanted}, it has {known}")


def evaluate(
    sgx: SgxExtension, svns: Sequence[bytes], info: TcbInfo, qe_isvsvn: int, identity: QeIdentity
) -> TcbResult:
    """``svns``: none for SGX, TEE_TCB_SVN for TDX, and TEE_TCB_SVN2 after it for TD report 1.5.

    Raises :class:`VerificationFailed` (``tcb``) where no level is reached or the converged status is Revoked.
    """
    launch = _reach(sgx, svns[0] if svns else None, info)
    qe = _isv_level(identity.levels, qe_isvsvn, "QE identity", "QE ISVSVN")
    status = _converged(launch, qe)
    running = None
    if len(svns) > 1:
        running = _converged(_reach(sgx, svns[1], info), qe)
        if running is TcbStatus.REVOKED:
            # Intel's library keeps the launch status here; a revoked module that runs now is the worse news.
            raise VerificationFailed(STEP, "TCB: the TDX module that runs now is Revoked")
        status = _relaunched(status, running)
    if status is TcbStatus.REVOKED:
        raise VerificationFailed(STEP, f"TCB: Revoked ({_parts(launch, qe)})")
    matched: list[TcbLevel | IsvLevel] = [launch.platform, qe]
    if launch.module is not None:
        matched.append(launch.module)
    return TcbResult(
        status=status,
        platform=launch.platform.status,
        module=None if launch.module is None else launch.module.status,
        qe=qe.status,
        running=running,
        date=min(level.date for level in matched),
        behind_since=_behind_since(launch, qe, info, svns, identity),
        advisories=tuple(sorted({name for level in matched for name in level.advisories})),
    )


def _reach(sgx: SgxExtension, tee_tcb_svn: bytes | None, info: TcbInfo) -> _Reached:
    for level in info.levels:
        if _reaches(sgx, tee_tcb_svn, level):
            break
    else:
        shown = f", TEE_TCB_SVN {tee_tcb_svn.hex()}" if tee_tcb_svn is not None else ""
        raise VerificationFailed(
            STEP,
            f"TCB: not supported: components {bytes(sgx.components).hex()}, PCESVN {sgx.pcesvn}{shown} reach no level "
            f"of TCB info {info.number}",
            hint="the platform is older than everything Intel lists for it: update its BIOS",
        )
    if tee_tcb_svn is None or tee_tcb_svn[1] == 0:
        return _Reached(level, None)
    module = module_of(info, tee_tcb_svn)
    return _Reached(level, _isv_level(module.levels, tee_tcb_svn[0], module.id, "TDX module SVN"))


def _reaches(sgx: SgxExtension, tee_tcb_svn: bytes | None, level: TcbLevel) -> bool:
    if sgx.pcesvn < level.pcesvn or any(map(int.__lt__, sgx.components, level.sgx)):
        return False
    if tee_tcb_svn is None:
        return True
    # With a module identity its own levels judge the first two: the module's minor SVN and its version.
    first = 0 if tee_tcb_svn[1] == 0 else 2
    return not any(map(int.__lt__, tee_tcb_svn[first:], level.tdx[first:]))


def _isv_level(levels: Sequence[IsvLevel], isvsvn: int, what: str, word: str) -> IsvLevel:
    for level in levels:
        if isvsvn >= level.isvsvn:
            return level
    lowest = levels[-1].isvsvn if levels else "none"
    raise VerificationFailed(STEP, f"TCB: not supported: {word} {isvsvn} is below every level of {what} ({lowest})")


def _converged(reached: _Reached, qe: IsvLevel) -> TcbStatus:
    status = reached.platform.status
    parts = [qe.status, *([] if reached.module is None else [reached.module.status])]
    if TcbStatus.REVOKED in (status, *parts):
        return TcbStatus.REVOKED
    return _OUT_OF_DATE.get(status, status) if TcbStatus.OUT_OF_DATE in parts else status


def _relaunched(launch: TcbStatus, running: TcbStatus) -> TcbStatus:
    """What is advised where launching again would help; configuration that either of the two needs stays needed."""
    if launch not in (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED) or running not in _CURRENT:
        return launch
    if launch in _CONFIGURATION_NEEDED or running in _CONFIGURATION_NEEDED:
        return TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return TcbStatus.TD_RELAUNCH_ADVISED


def _parts(reached: _Reached, qe: IsvLevel) -> str:
    module = "" if reached.module is None else f", module {reached.module.status.value}"
    return f"platform {reached.platform.status.value}{module}, QE {qe.status.value}"


def _behind_since(
    reached: _Reached, qe: IsvLevel, info: TcbInfo, svns: Sequence[bytes], identity: QeIdentity
) -> datetime | None:
    """The date of the oldest level that is better than what was reached, in any of the three parts."""
    better: list[datetime] = [level.date for level in info.levels[: info.levels.index(reached.platform)]]
    better += [level.date for level in identity.levels if level.isvsvn > qe.isvsvn]
    if reached.module is not None:
        levels = module_of(info, svns[0]).levels
        better += [level.date for level in levels if level.isvsvn > reached.module.isvsvn]
    return min(better, default=None)

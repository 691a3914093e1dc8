"""Init-data of a launch: the digest takes the place of HOST_DATA or MRCONFIGID, and that in words."""

from __future__ import annotations

from launcher.core.vm import TD_PLATFORMS, VmConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from policy.initdata import InitDataText

HOST_DATA, MRCONFIGID = ("HOST_DATA", 32), ("MRCONFIGID", 48)
"""Name and bytes."""


def default_algorithm(config: VmConfig) -> str:
    """The one whose digest fills the field that binds it."""
    return "sha384" if config.platform in TD_PLATFORMS else "sha256"


def bound(config: VmConfig, init_data: InitDataText | None) -> VmConfig:
    """``config`` whose launch is bound to ``init_data``; the same where there is none."""
    if init_data is None:
        return config
    from policy.initdata import held_by  # only for who has such a text

    if config.platform in TD_PLATFORMS:
        return config._replace(tdx=config.tdx._replace(mrconfigid=held_by(MRCONFIGID[1], init_data.digest)))
    return config._replace(snp=config.snp._replace(host_data=held_by(HOST_DATA[1], init_data.digest)))


def init_data_decisions(config: VmConfig, init_data: InitDataText | None) -> tuple[tuple[str, str, str], ...]:
    """(what, value, reason) for the plan."""
    if init_data is None:
        return ()
    who, source = init_data.identity, config.init_data.file if config.init_data else None
    names = [f"{word} {value}" for word, value in (("VM", who.vm), ("service", who.service)) if value]
    names += [] if who.resources is None else [f"{len(who.resources)} resource(s)"]
    field = (MRCONFIGID if config.platform in TD_PLATFORMS else HOST_DATA)[0]
    reason = f"{', '.join(names) or 'no identity'}; {source or 'written by cvm'}; {field} holds the digest"
    if config.boot.kernel is None:
        reason += "; the disk's own command line must say cvm.initdata=required"
    return (("init-data", f"{init_data.algorithm}:{init_data.digest.hex()}", reason),)


def init_data_members(config: VmConfig, init_data: InitDataText | None) -> dict[str, object] | None:
    """For the plan in JSON: digest and what binds it, hexadecimal. ``rtmr3``: of a TD, once the agent extended it."""
    if init_data is None:
        return None
    from policy.initdata import rtmr3_after

    td = config.platform in TD_PLATFORMS
    return {
        "bytes": len(init_data.text.encode()),
        "algorithm": init_data.algorithm,
        "digest": init_data.digest.hex(),
        "field": (MRCONFIGID if td else HOST_DATA)[0].lower(),
        "value": (config.tdx.mrconfigid if td else config.snp.host_data).hex(),
        "rtmr3": rtmr3_after(config.tdx.mrconfigid).hex() if td else None,
        **init_data.identity._asdict(),
    }

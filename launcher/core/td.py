"""What is special about planning a TD, real or emulated: refusals with reasons, and the choices in words."""

from __future__ import annotations

from launcher.core.facts import FirmwareFacts
from launcher.core.vm import TD_SWITCHES, VmConfig, td_attributes
from launcher.errors import PlanRefused
from policy.vocab import Platform


def refuse_td(config: VmConfig, firmware: FirmwareFacts | None, *, kernel_signed: bool) -> None:
    """Raise :class:`PlanRefused` for a TD that no host could start."""
    if config.snp.id_block is not None:
        raise PlanRefused(
            "snp.id_block: a TD has no ID block",
            code="snp.id-block-of-a-td",
            hint="tdx.mrowner and tdx.mrownerconfig name an owner",
        )
    if firmware is None or not firmware.starts_td:
        path = "none found" if firmware is None else firmware.path
        raise PlanRefused(
            f"firmware: {path}: no TDX metadata, so it cannot start a TD",
            code="firmware.no-td-metadata",
            hint='use OVMF.fd of ovmf-generic (firmware = "auto" finds it) or OVMF.inteltdx.ms.fd',
        )
    if firmware.secure_boot and config.boot.kernel is not None and not kernel_signed:
        raise PlanRefused(
            f"firmware: {firmware.path}: Secure Boot is on, and {config.boot.kernel} carries no signature: it would "
            "not start",
            code="firmware.unsigned-kernel",
            hint="use OVMF.fd, which has no keys enrolled: the kernel is measured in any case; or sign the kernel",
        )


def td_decisions(config: VmConfig) -> list[tuple[str, str, str]]:
    """(what, value, reason) of a TD's own choices."""
    settings = config.tdx
    on = ", ".join(name for name in TD_SWITCHES if getattr(settings, name))
    found = [("TD attributes", f"{td_attributes(settings):#x}", f"on: {on}; every quote shows them")]
    for name in ("mrconfigid", "mrowner", "mrownerconfig"):
        value = getattr(settings, name)
        if any(value) and not (name == "mrconfigid" and config.init_data):
            found.append((name, value.hex(), "the VM file says so; every quote shows it"))
    if config.platform is Platform.TDX:
        where = settings.quote_socket or "none"
        found.append(("quotes", where, "QEMU asks the quoting enclave's service there" if where != "none" else _MUTE))
    return found


_MUTE = "the VM file says so: the TD cannot prove anything to anybody"

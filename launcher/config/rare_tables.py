"""Tables that most VM files do without. The module that reads one is loaded for a file that has it: together they are a
tenth of what a launch would load before QEMU starts.
"""

from __future__ import annotations

from launcher.core.confinement_settings import IsolationSettings
from launcher.core.hardware import Devices, Placement, Ram
from launcher.core.lifecycle import Lifecycle
from launcher.core.limits import Limits
from launcher.core.vm import TdxSettings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.hardware import NumaNode, Passthrough, Share
    from launcher.core.network import Net, Vsock
    from launcher.core.vm import Disk, InitDataSource, SharedThrottle, VmConfig
    from policy.table import Problems, Table


def disks(tables: tuple[Table, ...]) -> tuple[Disk, ...]:
    """``[[disk]]``"""
    if not tables:
        return ()
    from launcher.config import disk_parts

    return disk_parts.disks(tables)


def throttles(tables: tuple[Table, ...]) -> tuple[SharedThrottle, ...]:
    """``[[throttle]]``"""
    if not tables:
        return ()
    from launcher.config import throttle_parts

    return throttle_parts.shared_throttles(tables)


def net(root: Table, tables: tuple[Table, ...], name: str) -> Net | None:
    """``[[net]]``; ``name`` is the VM's."""
    if not tables:
        return None
    from launcher.config import net_parts

    return net_parts.net(root, tables, name)


def vsock(table: Table | None) -> Vsock | None:
    """``[vsock]``"""
    if table is None:
        return None
    from launcher.config import net_parts

    return net_parts.vsock(table)


def tdx(table: Table | None) -> TdxSettings:
    """``[tdx]``"""
    if table is None:
        return TdxSettings()
    from launcher.config import td_parts

    return td_parts.tdx(table)


def init_data(table: Table | None, vm: str) -> InitDataSource | None:
    """``[init_data]``; ``vm`` is the VM's name."""
    if table is None:
        return None
    from launcher.config import init_data_parts

    return init_data_parts.init_data(table, vm)


def isolation(table: Table | None) -> IsolationSettings:
    """``[isolation]``"""
    if table is None:
        return IsolationSettings()
    from launcher.config import confinement_parts

    return confinement_parts.isolation(table)


def limits(table: Table | None, memory: int) -> Limits:
    """``[limits]``; ``memory`` is the guest's, bytes."""
    if table is None:
        return Limits()
    from launcher.config import confinement_parts

    return confinement_parts.limits(table, memory)


def lifecycle(table: Table | None) -> Lifecycle:
    """``[lifecycle]``"""
    if table is None:
        return Lifecycle()
    from launcher.config import lifecycle_parts

    return lifecycle_parts.lifecycle(table)


def operators(table: Table | None) -> tuple[str, ...]:
    """``[exec]``"""
    if table is None:
        return ()
    from launcher.config import exec_parts

    return exec_parts.operators(table)


def placement(table: Table | None, vcpus: int) -> Placement:
    """``[placement]``"""
    if table is None:
        return Placement()
    from launcher.config import hardware_parts

    return hardware_parts.placement(table, vcpus)


def ram(table: Table | None, memory: int) -> Ram:
    """``[ram]``; ``memory``: what the guest starts with, bytes."""
    if table is None:
        return Ram()
    from launcher.config import hardware_parts

    return hardware_parts.ram(table, memory)


def numa(tables: tuple[Table, ...]) -> tuple[NumaNode, ...]:
    """``[[numa]]``"""
    if not tables:
        return ()
    from launcher.config import hardware_parts

    return hardware_parts.numa(tables)


def devices(table: Table | None) -> Devices:
    """``[devices]``"""
    if table is None:
        return Devices()
    from launcher.config import hardware_parts

    return hardware_parts.devices(table)


def passthrough(tables: tuple[Table, ...]) -> tuple[Passthrough, ...]:
    """``[[passthrough]]``"""
    if not tables:
        return ()
    from launcher.config import hardware_parts

    return hardware_parts.passthrough(tables)


def shares(tables: tuple[Table, ...]) -> tuple[Share, ...]:
    """``[[share]]``"""
    if not tables:
        return ()
    from launcher.config import hardware_parts

    return hardware_parts.shares(tables)


def check(config: VmConfig, problems: Problems) -> None:
    """What such tables must agree about with the rest of the file."""
    if config.init_data is not None:
        from launcher.config.init_data_parts import check_init_data

        check_init_data(config, config.init_data, problems)
    if config.guest.swiotlb is not None or not config.guest.console:
        from launcher.config.guest_parts import check_kernel_words

        check_kernel_words(config, problems)
    if config.disks:
        from launcher.config.disk_parts import check_disks

        check_disks(config, problems)
    if config.numa:
        from launcher.config.hardware_parts import check_numa

        check_numa(config, problems)

"""The init-data a VM file names or has written: read, and checked as the guest and the service will."""

from __future__ import annotations

from launcher.core.init_data import default_algorithm
from launcher.core.vm import VmConfig
from launcher.errors import VmConfigInvalid
from launcher.io.hashing import read_file
from policy.initdata import MAX_BYTES, Identity, InitDataMalformed, InitDataText, parse_init_data, write_init_data


def read_init_data(config: VmConfig) -> InitDataText | None:
    """The text; ``None`` where the VM has none. Raises `FileUnreadable`, `VmConfigInvalid`."""
    source = config.init_data
    if source is None:
        return None
    if source.file is None:
        return parse_init_data(write_init_data(default_algorithm(config), Identity(*source[1:])))
    try:
        return parse_init_data(read_file(source.file, "init-data", MAX_BYTES))
    except InitDataMalformed as exc:
        raise VmConfigInvalid(source.file, (exc.message,)) from None

"""Whether a firmware leaves memory for the kernel to accept: unpacked once (0.2 s), then remembered by its SHA-256."""

from __future__ import annotations

import json
import os

from launcher.core.vm import TD_PLATFORMS
from launcher.io.cachedir import cache_place
from launcher.io.hashing import read_file
from policy.vocab import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.core.facts import FirmwareFacts

_SCHEMA = "cvm.firmware/1"


def with_lazy(firmware: FirmwareFacts, platform: Platform) -> FirmwareFacts:
    """``firmware`` with ``lazy`` filled in. An image that cannot be unpacked leaves it open: ``None``."""
    place = f"{cache_place()}/firmware/{firmware.sha256}.json"
    found = _remembered(place)
    if found is None:
        found = _looked(firmware.path)
        if found is not None:
            _remember(place, found)
    return firmware._replace(lazy=None if found is None else found["td" if platform in TD_PLATFORMS else "snp"])


def _looked(path: str) -> dict[str, bool] | None:
    from ovmf.errors import OvmfError
    from ovmf.firmware import MAX_FIRMWARE
    from ovmf.lazy_accept import lazy_accept

    try:
        return lazy_accept(read_file(path, "firmware", MAX_FIRMWARE))._asdict()
    except OvmfError:
        return None


def _remembered(place: str) -> dict[str, bool] | None:
    try:
        with open(place, "rb") as file:  # noqa: PTH123  pathlib costs start-up time
            document = json.loads(file.read(4096))
        found = {name: document[name] for name in ("snp", "td")}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    good = document.get("schema") == _SCHEMA and all(isinstance(value, bool) for value in found.values())
    return found if good else None


def _remember(place: str, found: dict[str, bool]) -> None:
    """A cache that cannot be written costs time, nothing else."""
    import contextlib
    import tempfile

    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=os.path.dirname(place))
        with os.fdopen(descriptor, "w") as file:
            json.dump({"schema": _SCHEMA, **found}, file)
        os.replace(name, place)

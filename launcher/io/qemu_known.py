"""What the very QEMU that will run can do: asked once, then remembered.

An entry holds for one way of starting it (loader, libraries, modules) and one file: path, time of change, size and
build id are compared each time. Whoever can write this cache can also replace the fetched QEMU beside it, so entries
are not signed; one that is damaged is asked for again.
"""

from __future__ import annotations

import os

from launcher.core.qemu_features import Capabilities
from launcher.io.build_id import build_id
from launcher.io.cachedir import cache_place
from launcher.io.qemu_file import FeaturesMalformed, from_document, to_document
from launcher.io.toolchain import Toolchain
from policy import plain_json
from policy.late import small_sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.io.sysfs import AnyPath

_MOST = 1 << 16


def known_capabilities(tools: Toolchain) -> Capabilities:
    """Raises what `launcher.io.qemu_probe.probe_capabilities` raises."""
    found = _load(_entry(tools, cache_place()), _identity(tools))
    if found is not None:
        return found
    from launcher.io.qemu_probe import probe_capabilities  # asks in a process of its own: once per QEMU

    return remember(tools, probe_capabilities(tools), cache_place())


def remember(tools: Toolchain, known: Capabilities, cache: AnyPath) -> Capabilities:
    """Write the entry, whole or not at all, and give ``known`` with the binary's build id. A cache that cannot be
    written costs time, nothing else.
    """
    import contextlib
    import tempfile

    file = _identity(tools)
    if file is None:
        return known
    known = known._replace(build=file[-1])
    place = _entry(tools, cache)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=os.path.dirname(place))
        with os.fdopen(descriptor, "w") as entry:
            entry.write(plain_json.dumps({"file": file, "known": to_document(known)}))
        os.replace(name, place)
    return known


def _entry(tools: Toolchain, cache: AnyPath) -> str:
    started = "\0".join((*tools.qemu_argv, *(f"{name}={value}" for name, value in sorted(tools.env.items()))))
    return f"{cache}/qemu/{small_sha256(started.encode()).hexdigest()[:32]}.json"


def _identity(tools: Toolchain) -> list[str] | None:
    """Path, time of change (ns), size, build id; ``None`` where that cannot be read, so nothing is remembered."""
    try:
        status = os.stat(tools.binary)
        return [tools.binary, str(status.st_mtime_ns), str(status.st_size), build_id(tools.binary)]
    except OSError:
        return None


def _load(place: str, file: list[str] | None) -> Capabilities | None:
    try:
        with open(place, "rb") as entry:  # noqa: PTH123  pathlib costs start-up time
            document = plain_json.loads(entry.read(_MOST))
        return from_document(document["known"], place) if file and document["file"] == file else None
    except (OSError, ValueError, TypeError, KeyError, FeaturesMalformed):
        return None

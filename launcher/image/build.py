"""An image out of a base and the agent's sources: ``vmlinuz``, ``initrd.zst`` and ``manifest.json``.

The initrd is two archives one after the other, which the kernel unpacks in turn: the base as it was built, then the
agent's modules as bytecode. Changing the agent therefore costs a second, not the compression of everything. Same
packages, same sources, same version of this builder: same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from launcher.image.base import Base, pad
from launcher.image.cpio import archive, file
from launcher.image.errors import ImageError
from launcher.image.sysroot import Source
from launcher.image.userland import SITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SCHEMA: Final = "cvm.image/1"
KERNEL_FILE: Final = "vmlinuz"
INITRD_FILE: Final = "initrd.zst"
MANIFEST_FILE: Final = "manifest.json"

_AGENT_LIST: Final = "attest/attester/FILES"
_AGENT_PATTERNS: Final = ("policy/*.py", "attest/__init__.py", "attest/attester/**/*.py")
_GUEST_INIT: Final = "launcher/image/guest_init.py"
_AGENT_LEVEL: Final = 19


def agent_sources(project: Path) -> tuple[str, ...]:
    """Paths, relative to the folder ``project``, of the sources that go into the guest, sorted.

    Raises ImageError when the agent's own list names a file that is not there or leads out of the project.
    """
    listed = [line.strip() for line in (project / _AGENT_LIST).read_text().splitlines()]
    paths = {line for line in listed if line and not line.startswith("#")}
    for pattern in _AGENT_PATTERNS:
        paths |= {path.relative_to(project).as_posix() for path in project.glob(pattern)}
    for path in paths:
        if (
            path.startswith("/")
            or ".." in path.split("/")
            or not path.endswith(".py")
            or not (project / path).is_file()
        ):
            raise ImageError(f"{_AGENT_LIST}: {path!r} must be a Python file of the project")
    return tuple(sorted(paths))


def image_key(base: Base, project: Path) -> str:
    """A digest of everything the image depends on; equal keys mean equal images."""
    digest = hashlib.sha256(base.archive.read_bytes() + base.vmlinuz.read_bytes())
    for path in (*agent_sources(project), _GUEST_INIT):
        digest.update(path.encode() + b"\0" + hashlib.sha256((project / path).read_bytes()).digest())
    return digest.hexdigest()


def build_image(base: Base, project: Path, folder: Path) -> dict[str, object]:
    """Write the three files into ``folder`` and return the manifest. Raises ImageError."""
    paths = agent_sources(project)
    # Docstrings stay: without them every dataclass would make one up when it is imported, which costs boot time.
    sources = [Source(f"{SITE}/{path}", project / path, 0) for path in paths]
    sources.append(Source(f"{SITE}/cvm_init.py", project / _GUEST_INIT, 0))
    code = base.sysroot.compile(sources)
    agent = archive(file(f"{source.path}c", data) for source, data in zip(sources, code, strict=True))
    initrd = base.archive.read_bytes() + pad(base.sysroot.compress(agent, _AGENT_LEVEL))
    kernel = base.vmlinuz.read_bytes()
    (folder / KERNEL_FILE).write_bytes(kernel)
    (folder / INITRD_FILE).write_bytes(initrd)
    manifest: dict[str, object] = {
        "schema": SCHEMA,
        "suite": base.suite,
        "key": image_key(base, project),
        "builder": base.builder,
        "kernel": _described(KERNEL_FILE, kernel) | {"release": base.release},
        "initrd": _described(INITRD_FILE, initrd),
        "python": base.python,
        "modules": list(base.modules),
        "inputs": list(base.inputs),
        "agent": [{"path": p, "sha256": _sha256((project / p).read_bytes())} for p in (*paths, _GUEST_INIT)],
    }
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def read_manifest(folder: Path) -> dict[str, object] | None:
    """The manifest of the image in ``folder`` if both files are what it says, else ``None``."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        entries: Iterable[dict[str, str]] = (manifest["kernel"], manifest["initrd"])
        intact = all(_sha256((folder / entry["path"]).read_bytes()) == entry["sha256"] for entry in entries)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if intact and manifest.get("schema") == SCHEMA else None


def _described(name: str, data: bytes) -> dict[str, object]:
    return {"path": name, "sha256": _sha256(data), "size": len(data)}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

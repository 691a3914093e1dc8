"""Use case: a new encrypted disk whose key only the service keeps.

Order: nothing is made when the file or the key exists; the image is made under a temporary name; the key is stored;
the image gets its name. Whatever fails before the last step leaves neither a disk nor a key behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.image.errors import DiskExists, DiskFailed
from launcher.image.luks_disk import KEY_BYTES, DiskSecrets, check_size, write_disk
from launcher.image.xts import VOLUME_KEY_BYTES
from launcher.io.key_service import KeyService, ResourceExists
from policy.errors import CvmError
from policy.secret import SecretBytes
from policy.vocab import ResourcePath

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DiskOrder:
    """``size`` is the whole image's, in bytes; ``content`` a folder whose files the disk is to hold."""

    image: Path
    size: int
    resource: ResourcePath
    content: Path | None = None


def create_disk(order: DiskOrder, service: KeyService, progress: Progress) -> str:
    """Make the disk and store its key with the digest of its header, which is returned.

    Raises DiskExists, DiskFailed, ResourceExists, ServiceUnavailable, ServiceRefused.
    """
    check_size(order.size)
    if order.image.exists() or order.image.is_symlink():
        raise DiskExists(f"{order.image}: exists already", hint="give another name, or remove the file first")
    if service.has(order.resource):
        raise ResourceExists(f"key {order.resource}: the service has one already", hint="choose another --resource")
    disk_secrets = DiskSecrets(
        SecretBytes(secrets.token_bytes(KEY_BYTES)), SecretBytes(secrets.token_bytes(VOLUME_KEY_BYTES))
    )
    temporary = _temporary(order.image)
    try:
        progress(f"{order.image.name}: LUKS2 and ext4, {order.size >> 20} MiB")
        header = write_disk(temporary, order.size, disk_secrets, order.content)
        service.store(order.resource, disk_secrets.key, header)
        _publish(temporary, order, service)
    finally:
        temporary.unlink(missing_ok=True)
        disk_secrets.key.wipe()
        disk_secrets.volume_key.wipe()
    return header


def _temporary(image: Path) -> Path:
    """An empty file, mode 0600, beside where the image will be."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{image.name}.", dir=image.parent)
    except OSError as error:
        raise DiskFailed(f"{image.parent}: {error.strerror}", code="disk.folder") from error
    os.close(descriptor)
    return Path(name)


def _publish(temporary: Path, order: DiskOrder, service: KeyService) -> None:
    """Give the image its name without ever replacing a file."""
    try:
        os.link(temporary, order.image)
    except OSError as error:
        with contextlib.suppress(CvmError):
            service.erase(order.resource)
        if isinstance(error, FileExistsError):
            raise DiskExists(f"{order.image}: was made by somebody else meanwhile") from error
        raise DiskFailed(f"{order.image}: {error.strerror}") from error

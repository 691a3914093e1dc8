"""What can go wrong while building a guest image or a disk."""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput


class ImageError(CvmError):
    """The image cannot be built from these packages or sources."""

    code = "image.failed"


class PackageMalformed(MalformedInput):
    """A package, or a file inside it, does not parse."""

    code = "image.malformed"


class DiskFailed(CvmError):
    """An encrypted disk could not be made: no space, no tool, contents that do not fit."""

    code = "disk.failed"


class DiskExists(CvmError):
    """There is a file of that name already; a disk is never overwritten."""

    code = "disk.exists"
    exit_status = 10

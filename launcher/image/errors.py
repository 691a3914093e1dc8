"""What can go wrong while building a guest image or a disk."""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput


class ImageError(CvmError):
    """The image cannot be built from these packages or sources."""

    code = "image.failed"


class ImageExists(ImageError):
    """The folder for the image holds something else; nothing of it is replaced."""

    code = "image.exists"
    exit_status = 10


class ImageDamaged(ImageError):
    """There is no image in the folder, or its files are not what the manifest says."""

    code = "image.damaged"
    exit_status = 10


class PackageMalformed(MalformedInput):
    """A package, or a file inside it, does not parse."""

    code = "image.malformed"


class DiskFailed(CvmError):
    """An encrypted disk could not be made: no space, no tool, contents that do not fit."""

    code = "disk.failed"


class DiskOrderInvalid(DiskFailed):
    """The size cannot be, or the folder of contents is not there."""

    code = "disk.order"
    exit_status = 3


class DiskToolMissing(DiskFailed):
    """A program that makes disks is not installed."""

    code = "disk.tool-missing"
    exit_status = 4


class DiskExists(CvmError):
    """There is a file of that name already; a disk is never overwritten."""

    code = "disk.exists"
    exit_status = 10

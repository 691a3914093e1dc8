"""What can go wrong while building a guest image or a disk."""

from __future__ import annotations

from policy.errors import CvmError, MalformedInput


class ImageError(CvmError):
    """The image cannot be built from these packages or sources."""

    code = "image.failed"


class PackageMalformed(MalformedInput):
    """A package, or a file inside it, does not parse."""

    code = "image.malformed"

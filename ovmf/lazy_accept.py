"""Whether a firmware image can leave memory unaccepted for the kernel, so that a large guest starts in seconds.

Read from the protocols its drivers know. SEV-SNP: unless the kernel asks OVMF not to, through a protocol of OVMF's own,
``AmdSevDxe`` accepts everything when boot services end. TDX: without the protocol by which more memory is accepted on
demand, nothing may be left unaccepted. Sources: edk2 ``OvmfPkg/AmdSevDxe/AmdSevDxe.c``, ``MdePkg/MdePkg.dec``
(gEdkiiMemoryAcceptProtocolGuid); Linux ``drivers/firmware/efi/libstub/x86-stub.c``.
"""

from __future__ import annotations

from typing import NamedTuple

from ovmf.guid import efi_guid
from ovmf.volumes import modules

_SEV_LEAVES_IT = efi_guid("c5a010fe-38a7-4531-8a4a-0500d2fd1649")
_ACCEPTS_MORE = efi_guid("38c74800-5590-4db4-a0f3-675d9b8e8026")


class Lazy(NamedTuple):
    """``snp``: in an SEV-SNP guest; ``td``: in a TD. Whether a kernel then makes use of it is the kernel's matter
    (``CONFIG_UNACCEPTED_MEMORY``).
    """

    snp: bool
    td: bool


def lazy_accept(firmware: bytes) -> Lazy:
    """Of an image; raises `ovmf.errors.FirmwareMalformed` for one whose volumes contradict themselves."""
    images = [module.image for module in modules(firmware)]
    snp = any(_SEV_LEAVES_IT in image for image in images)
    return Lazy(snp, any(_ACCEPTS_MORE in image for image in images))

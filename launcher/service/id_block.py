"""The ID block a VM file names: checked before the launch as the chip will check it, so that its refusal has words."""

from __future__ import annotations

from launcher.core.spec import IdBlockFiles
from launcher.core.vm import SnpSettings
from launcher.errors import PlanRefused
from launcher.io.hashing import read_file
from policy.fixed import LaunchDigest

_MOST = 1 << 16
_HINT = "make it anew: cvm measure VM.toml -o F, then cvm idblock create --reference F"


def read_id_block(settings: SnpSettings) -> IdBlockFiles | None:
    """The files' contents, signatures verified; ``None`` when the VM has none. Raises `FileUnreadable` and
    `ovmf.errors.IdBlockMalformed` or `IdBlockInvalid`."""
    if settings.id_block is None or settings.id_auth is None:
        return None
    from ovmf.id_block import verify_id_block  # loads cryptography, which a VM without one does not need

    block = read_file(settings.id_block, "ID block", _MOST)
    auth = read_file(settings.id_auth, "ID auth", _MOST)
    _, parsed = verify_id_block(block, auth)
    return IdBlockFiles(block, auth, parsed.author_key is not None)


def check_id_block(files: IdBlockFiles, launch_digest: LaunchDigest, policy: int) -> None:
    """Raise :class:`PlanRefused` unless the block states this launch digest and this guest policy."""
    from ovmf.id_block import parse_id_block

    block = parse_id_block(files.block)
    if block.launch_digest != launch_digest:
        raise PlanRefused(
            f"ID block: is for launch digest {block.launch_digest.hex()}, this VM has {launch_digest.hex()}",
            code="snp.id-block-digest",
            hint=_HINT,
        )
    if block.policy != policy:
        raise PlanRefused(
            f"ID block: is for guest policy 0x{block.policy:x}, this VM has 0x{policy:x}",
            code="snp.id-block-policy",
            hint=f"cvm idblock create --policy {policy:x}, or change the switches under [snp]",
        )

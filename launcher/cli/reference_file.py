"""The reference-value file ``cvm measure -o`` writes for the attestation service."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from launcher.io.measurement import MeasurementImpossible
from policy.reference import LaunchRecipe, ReferenceValue, reference_from_bytes, reference_to_bytes
from policy.vocab import LaunchDigest, Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from policy.reference_tdx import TdRecipe


def write_reference(
    output: str,
    name: str | None,
    platform: str,
    launch_digest: LaunchDigest,
    recipe: LaunchRecipe | TdRecipe | None,
    rtmrs: tuple[bytes | None, ...] = (),
) -> None:
    """Write the file ``output``; without ``name`` the value is called after it. ``rtmrs``: of a TD. Raises as the
    decoder does.
    """
    target = Path(output)
    value = ReferenceValue(
        name=name or target.name.split(".")[0],
        platform=Platform(platform),
        launch_digest=launch_digest,
        created=datetime.now(UTC).replace(microsecond=0),
        recipe=recipe,
        rtmrs=rtmrs,
    )
    data = reference_to_bytes(value)
    reference_from_bytes(data)  # what the service will do: never write a file it would refuse
    write_file(target, data)


def write_file(target: Path, data: bytes) -> None:
    """Write a result to the file an operator named."""
    try:
        target.write_bytes(data)
    except OSError as error:
        raise MeasurementImpossible(f"{target}: {error.strerror}", code="file.unwritable") from None

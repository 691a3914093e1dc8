"""Random firmware, random launches: sev-snp-measure and this project agree on every digest, or both refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ovmf.errors import KernelNotMeasurable
from ovmf.kernel_hashes import NO_INITRD, KernelHashes, cmdline_hash
from ovmf.sev_launch import sev_es_launch_digest, sev_launch_digest
from ovmf.snp_launch import Firmware, snp_launch_digest
from ovmf.steps import launch_steps
from ovmf.svsm import svsm_launch_digest
from ovmf.vcpu import cpu_signature
from ovmf.warm import DigestCache
from tests.fakes.ovmf_random import Image, images, svsms

guest = pytest.importorskip("sevsnpmeasure.guest", reason="sev-snp-measure is not installed")
from sevsnpmeasure.sev_mode import SevMode  # noqa: E402
from sevsnpmeasure.vcpu_types import cpu_sig  # noqa: E402
from sevsnpmeasure.vmm_types import VMMType  # noqa: E402

VMMS = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}
cpus = st.tuples(st.integers(15, 270), st.integers(0, 255), st.integers(0, 15))
boots = st.none() | st.tuples(
    st.binary(max_size=64), st.none() | st.binary(max_size=64), st.text("abc =/ö", max_size=20)
)
features = st.integers(0, 2**64 - 1) | st.sampled_from([0x1, 0x21])
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Boot = tuple[bytes, bytes | None, str]


def hashes_of(boot: Boot | None) -> KernelHashes | None:
    if boot is None:
        return None
    kernel, initrd, cmdline = boot
    initrd_hash = NO_INITRD if initrd is None else hashlib.sha256(initrd).digest()
    return KernelHashes(hashlib.sha256(kernel).digest(), initrd_hash, cmdline_hash(cmdline.encode()))


def theirs(folder: Path, mode: SevMode, image: bytes, boot: Boot | None, **more: Any) -> bytes:
    files: dict[str, str | None] = {"kernel": None, "initrd": None}
    for name, data in zip(files, boot or (), strict=False):
        if data is not None:
            (folder / name).write_bytes(data)
            files[name] = str(folder / name)
    (folder / "firmware.fd").write_bytes(image)
    options = {"vcpus": 1, "vcpu_sig": 0, "guest_features": 1, **more}
    append = boot[2] if boot else None
    result: bytes = guest.calc_launch_digest(
        mode, ovmf_file=str(folder / "firmware.fd"), append=append, **files, **options
    )
    return result


def agree(ours: Callable[[], bytes], other: Callable[[], bytes]) -> None:
    try:
        digest = ours()
    except KernelNotMeasurable:
        event("no place for boot hashes")
        with pytest.raises(RuntimeError):
            other()
        return
    assert digest == other()


@many
@given(images(), st.integers(1, 8), cpus, features, boots, st.sampled_from(sorted(VMMS)))
def test_snp_digests_agree(
    tmp_path: Path,
    image: Image,
    vcpus: int,
    cpu: tuple[int, int, int],
    guest_features: int,
    boot: Boot | None,
    vmm: str,
) -> None:
    assert cpu_signature(*cpu) == cpu_sig(*cpu)
    launch: dict[str, Any] = {"vcpus": vcpus, "vcpu_sig": cpu_signature(*cpu), "guest_features": guest_features}
    firmware = Firmware.from_bytes(image.data)
    hashes = hashes_of(boot)
    agree(
        lambda: snp_launch_digest(firmware, hashes=hashes, vmm=vmm, **launch),
        lambda: theirs(tmp_path, SevMode.SEV_SNP, image.data, boot, vmm_type=VMMS[vmm], **launch),
    )
    if boot is None or image.measures_kernel:
        event(f"{vmm}, {'kernel' if boot else 'no kernel'}")
        digest = snp_launch_digest(firmware, hashes=hashes, vmm=vmm, **launch)
        assert launch_steps(firmware, hashes=hashes, vmm=vmm, **launch)[-1].digest == digest
        assert DigestCache().firmware(image.data).ld == guest.calc_snp_ovmf_hash(str(tmp_path / "firmware.fd"))


@many
@given(images(), st.integers(1, 6), cpus, boots, st.sampled_from(sorted(VMMS)))
def test_sev_and_sev_es_digests_agree(
    tmp_path: Path, image: Image, vcpus: int, cpu: tuple[int, int, int], boot: Boot | None, vmm: str
) -> None:
    launch: dict[str, Any] = {"vcpus": vcpus, "vcpu_sig": cpu_signature(*cpu)}
    hashes = hashes_of(boot)
    agree(lambda: sev_launch_digest(image.data, hashes), lambda: theirs(tmp_path, SevMode.SEV, image.data, boot))
    agree(
        lambda: sev_es_launch_digest(image.data, hashes=hashes, vmm=vmm, **launch),
        lambda: theirs(tmp_path, SevMode.SEV_ES, image.data, boot, vmm_type=VMMS[vmm], **launch),
    )


@many
@given(images(), svsms(), st.integers(0, 200), st.integers(1, 6), cpus)
def test_svsm_digests_agree(
    tmp_path: Path, image: Image, svsm: bytes, variable_pages: int, vcpus: int, cpu: tuple[int, int, int]
) -> None:
    (tmp_path / "svsm").write_bytes(svsm)
    launch: dict[str, Any] = {"vcpus": vcpus, "vcpu_sig": cpu_signature(*cpu)}
    size = variable_pages * 4096
    other = theirs(
        tmp_path,
        SevMode.SEV_SNP_SVSM,
        image.data,
        None,
        svsm_file=str(tmp_path / "svsm"),
        ovmf_vars_size=size,
        **launch,
    )
    assert svsm_launch_digest(image.data, svsm, variable_store_size=size, **launch) == other

"""Open a VM file and what it names. On the start-up path of ``cvm measure VM.toml``."""

from __future__ import annotations

import posixpath
from binascii import Error as Base64Error
from binascii import a2b_base64

from launcher.config.vm_toml import parse_vm
from launcher.core.vm import Disk, VmConfig
from launcher.errors import VmConfigInvalid
from launcher.io.hashing import read_file
from policy.toml import MAX_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from launcher.core.storage import Backing

_PATHS = ("conf", "key_file", "password_file", "tls")
"""Members of network sources that name files on this host."""
_MAX_CA = 1 << 16
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def load_vm(path: str) -> VmConfig:
    """Read, decode and resolve: every path in the result is absolute. Raises `VmConfigInvalid`, `FileUnreadable`."""
    data = read_file(path, "VM file", MAX_BYTES)
    config = parse_vm(data, posixpath.basename(path))
    return resolve(config, posixpath.dirname(posixpath.abspath(path)))


def resolve(config: VmConfig, folder: str) -> VmConfig:
    """``config`` with its paths taken as relative to ``folder`` (absolute)."""

    def at(path: str) -> str:
        joined = posixpath.join(folder, path)
        # ".." behind a symbolic link means the link's target: leave that to the kernel.
        return joined if ".." in path.split("/") else posixpath.normpath(joined)

    boot = config.boot
    return config._replace(
        boot=boot._replace(
            firmware=boot.firmware if boot.firmware == "auto" else at(boot.firmware),
            kernel=None if boot.kernel is None else at(boot.kernel),
            initrd=None if boot.initrd is None else at(boot.initrd),
        ),
        disks=tuple(_disk(disk, at) for disk in config.disks),
        attestation=None if config.attestation is None else config.attestation._replace(ca=at(config.attestation.ca)),
        snp=config.snp._replace(
            id_block=None if config.snp.id_block is None else at(config.snp.id_block),
            id_auth=None if config.snp.id_auth is None else at(config.snp.id_auth),
        ),
        init_data=None
        if config.init_data is None
        else config.init_data._replace(file=None if config.init_data.file is None else at(config.init_data.file)),
        shares=tuple(item._replace(path=at(item.path)) for item in config.shares),
        emulator_state=None if config.emulator_state is None else at(config.emulator_state),
    )


def _disk(disk: Disk, at: Callable[[str], str]) -> Disk:
    """Every path a disk names; those of unix sockets and on servers are absolute already."""
    replicas = disk.replicas
    if replicas is not None:
        replicas = replicas._replace(copies=tuple(_copy(item, at) for item in replicas.copies))
    own = _copy(disk.copies[0], at)
    key_file = None if disk.key_file is None else at(disk.key_file)
    return disk._replace(path=own.path, network=own.network, key_file=key_file, replicas=replicas)


def _copy(backing: Backing, at: Callable[[str], str]) -> Backing:
    network = backing.network
    if network is None:
        return backing._replace(path=at(backing.path))
    members: dict[str, Any] = {
        name: at(value) for name, value in network._asdict().items() if name in _PATHS and value is not None
    }
    return backing._replace(network=network._replace(**members))


def read_ca(config: VmConfig) -> bytes | None:
    """The pinned CA certificate as DER, ``None`` without an ``[attestation]`` table."""
    if config.attestation is None:
        return None
    path = config.attestation.ca
    return one_certificate(read_file(path, "CA certificate", _MAX_CA), path)


def one_certificate(data: bytes, path: str) -> bytes:
    """The DER of a PEM file with exactly one certificate; a DER file as it is. Only the envelope is checked here."""
    der = data
    if not data.startswith(b"\x30"):
        text = data.decode("ascii", "replace")
        if text.count(_BEGIN) != 1 or text.count(_END) != 1:
            raise VmConfigInvalid(path, (f"got {text.count(_BEGIN)} certificates, want exactly one in PEM",))
        body = text.partition(_BEGIN)[2].partition(_END)[0]
        try:
            der = a2b_base64("".join(body.split()), strict_mode=True)
        except (Base64Error, ValueError):
            raise VmConfigInvalid(path, ("the certificate is not base64",)) from None
    if der[:2] != b"\x30\x82" or len(der) != 4 + int.from_bytes(der[2:4], "big"):
        raise VmConfigInvalid(path, (f"{len(der)} bytes beginning {der[:4].hex()} are not one DER certificate",))
    return der

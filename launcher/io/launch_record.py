"""What this host says it launched, signed with its key: statements ``cvm.launch-record/1`` and, when the VM has ended,
``cvm.launch-end/1``, in DSSE envelopes.

It proves what the host meant to start, to a service whose operators registered the key (`attest host add`); what runs
is proven by the chip.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Sequence

from launcher.errors import StateUnusable
from launcher.io.hashing import hash_file
from launcher.io.statedir import VmDir, state_root
from policy.dsse import LAUNCH_TYPE, pae
from policy.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = ".launch-key.pem"
RECORD_FILE = "launch.dsse.json"
STARTED, ENDED = "cvm.launch-record/1", "cvm.launch-end/1"


class Launched(NamedTuple):
    """Digests are SHA-256 in hexadecimal, ``measurement`` the launch digest or MRTD. ``qemu``: its file. ``epoch``: how
    often the VM went back to a snapshot.
    """

    vm: str
    time: str
    config_sha256: str
    firmware_sha256: str
    measurement: str
    qemu: str
    qemu_version: str
    argv: Sequence[str]
    epoch: int = 0


class Ended(NamedTuple):
    """``launch_sha256`` names the statement that the launch began; ``up_seconds`` are whole ones."""

    vm: str
    time: str
    launch_sha256: str
    outcome: str
    reason: str
    attested: bool
    up_seconds: int


class Signed(NamedTuple):
    """A DSSE envelope, and the SHA-256 (hexadecimal) of the statement in it."""

    envelope: dict[str, object]
    sha256: str


def host_key() -> bytes:
    """The public key (PEM, Ed25519) of this host's launches; the pair is made when there is none. Raises
    :class:`StateUnusable`.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = _private()
    if key is None:
        key = Ed25519PrivateKey.generate()
        path = _path()
        try:
            os.makedirs(state_root(), mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                file.flush()
                os.fsync(descriptor)
        except OSError as exc:
            raise StateUnusable(f"launch key: {path}: {exc.strerror}") from None
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def write_record(vm: VmDir, launched: Launched) -> Signed | None:
    """Sign the statement into the VM's folder; ``None``: this host has no launch key. Raises `StateUnusable`."""
    key = _private()
    if key is None:
        return None
    members = {name: value for name, value in launched._asdict().items() if name not in ("qemu", "argv", "epoch")}
    if launched.epoch:  # left out otherwise: a service of an older release does not know it
        members["epoch"] = launched.epoch
    qemu = hash_file(launched.qemu, "QEMU").hex()
    signed = _sign(key, {"schema": STARTED, **members, "qemu_sha256": qemu, "argv": list(launched.argv)})
    vm.write_json(RECORD_FILE, signed.envelope)
    return signed


def sign_end(ended: Ended) -> Signed | None:
    """``None``: this host has no launch key any more. Raises `StateUnusable`."""
    key = _private()
    return None if key is None else _sign(key, {"schema": ENDED, **ended._asdict()})


def _sign(key: Ed25519PrivateKey, statement: dict[str, object]) -> Signed:
    body = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode("ascii")
    signature = {"keyid": _key_id(key), "sig": _text(key.sign(pae(LAUNCH_TYPE, body)))}
    envelope: dict[str, object] = {"payload": _text(body), "payloadType": LAUNCH_TYPE, "signatures": [signature]}
    return Signed(envelope, hashlib.sha256(body).hexdigest())


def _key_id(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def _private() -> Ed25519PrivateKey | None:
    """``None`` where there is no key; then nothing that signs is imported either."""
    path = _path()
    if not os.path.exists(path):
        return None
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:  # noqa: PTH123  # no pathlib on the way to a launch
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise StateUnusable(f"launch key: {path}: others may read it, want mode 0600")
            key = load_pem_private_key(file.read(1 << 16), None)
    except (OSError, ValueError, TypeError) as exc:
        raise StateUnusable(f"launch key: {path}: {exc}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StateUnusable(f"launch key: {path}: want Ed25519")
    return key


def _path() -> str:
    return f"{state_root()}/{KEY_FILE}"


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")
